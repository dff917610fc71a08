"""The command line: `easycoreset COMMAND ...`."""

import os
import re
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import CycloptsError, MissingArgumentError, Parameter, Token, UnusedCliTokensError

from easycoreset import console
from easycoreset.cli.commands import app
from easycoreset.cli.config import add_config_options
from easycoreset.cli.grid_flags import expand_grid_flags
from easycoreset.cli.launcher import (
    PROCESS_LOST,
    is_follower,
    is_process_loss,
    leave_process_group,
    refuse_undistributed,
    silence_follower,
)
from easycoreset.cli.listing import list_members, print_recipe
from easycoreset.cli.output import Output
from easycoreset.cli.places import add_place, insert_flag_of_first_word
from easycoreset.cli.unknown_arguments import describe_unknown, refuse_empty
from easycoreset.console import escape_control
from easycoreset.devices import describe_gpu_error
from easycoreset.errors import EasycoresetWarning, GridError, RunError, UsageError, shorten

__all__ = ["app", "main"]

DEFAULT_VALUES = {
    "--save-features": "clean",
    "--margins": "fmn",
    "--corruptions": "all",
}  # of flags given without a value
EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_PARTIAL = 3
EXIT_INTERRUPTED = 130
ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # terminal colours in messages of libraries
MAX_MESSAGE = 4000  # characters
MAIN_PROCESS_SECONDS = 20  # the time in which the main process reports an error


def _raw_text(hint: object, tokens: Sequence[Token]) -> str:
    return tokens[0].value


app.meta.suppress_keyboard_interrupt = False  # main prints how to resume


@app.meta.default
def launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True, converter=_raw_text)],
    config: Path | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
    quiet: Annotated[bool, Parameter(negative=())] = False,
    debug: Annotated[bool, Parameter(negative=())] = False,
    list_: Annotated[bool, Parameter(name="--list", negative=())] = False,
    show_recipe: str | None = None,
) -> None:
    """Choose training data for robustness.

    Args:
        tokens: the command and its options.
        config: A YAML file of the command's options; flags override it.
        json: Print one JSON object to standard output.
        quiet: Show only warnings, no progress.
        debug: Show tracebacks.
        list_: List the methods, attacks, objectives etc. of the command, with their options.
        show_recipe: Print a recipe of `compare` as YAML, as a start for a new one.
    """
    if show_recipe is not None:
        print_recipe(show_recipe)
        return
    if list_:
        list_members(tokens, as_json=json)
        return
    arguments = add_config_options(list(tokens), config) if config else list(tokens)
    console.configure_output(quiet or "--quiet" in arguments)
    Output.as_json = json or "--json" in arguments
    arguments = expand_grid_flags([token for token in arguments if token not in ("--json", "--quiet", "--debug")])
    refuse_empty(arguments)
    arguments = add_place(insert_flag_of_first_word(arguments))
    for flag, value in DEFAULT_VALUES.items():
        arguments = insert_default_values(arguments, flag, value)
    app(arguments, exit_on_error=False, print_error=False, result_action="return_value")


def insert_default_values(tokens: Sequence[str], flag: str, value: str) -> list[str]:
    """Insert the default value of a flag that is given without one.

    >>> insert_default_values(["score", "--save-features", "--out", "x"], "--save-features", "clean")
    ['score', '--save-features', 'clean', '--out', 'x']
    """
    filled: list[str] = []
    for i, token in enumerate(tokens):
        filled.append(token)
        if token == flag and (i + 1 == len(tokens) or tokens[i + 1].startswith("-")):
            filled.append(value)
    return filled


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Exit codes: 0 done, 1 failed, 2 wrong use, 3 part of a grid failed, 130 interrupted.
    """
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # OpenMP reads it with PyTorch: threads that wait sleep
    sys.path.append(os.getcwd())  # to find a user's own module:factory, after installed modules
    warnings.showwarning = _show_warning
    if is_follower():
        tokens = silence_follower(tokens)
    warnings.simplefilter("always", EasycoresetWarning)
    try:
        refuse_undistributed(tokens)
        app.meta(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    except BrokenPipeError:  # the reader of our output has closed it
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
        return EXIT_DONE
    except MissingArgumentError as error:
        missing = error.argument.name if error.argument else "an option"
        return _fail(f"{missing} is required{describe_unknown(tokens)}", EXIT_USAGE, tokens)
    except (CycloptsError, UsageError) as error:
        if is_follower():  # the main process reports the same error; the launcher ends all processes once one has ended
            time.sleep(MAIN_PROCESS_SECONDS)
        return _fail(error, EXIT_USAGE, tokens)
    except GridError as error:
        return _fail(error, EXIT_PARTIAL, tokens)
    except OSError as error:
        prefix = f"{shorten(str(error.filename), 200)}: " if error.filename else ""
        return _fail(f"{prefix}{error.strerror}" if error.strerror else error, EXIT_FAILED, tokens)
    except RunError as error:
        return _fail(error, EXIT_FAILED, tokens)
    except KeyboardInterrupt:
        print("interrupted: the same command resumes from the last checkpoint", file=sys.stderr)
        return EXIT_INTERRUPTED
    except SystemExit as end:
        return int(end.code or 0)
    except Exception as error:  # our own bug: also one line, and how to see the traceback
        if said := (PROCESS_LOST if is_process_loss(error) else describe_gpu_error(error)):
            return _fail(said, EXIT_FAILED, tokens)
        return _fail(f"{type(error).__name__}: {error} (a bug; --debug shows where)", EXIT_FAILED, tokens)
    finally:
        leave_process_group()
    return EXIT_DONE


def _fail(error: BaseException | str, code: int, tokens: Sequence[str]) -> int:
    if "--debug" in tokens:
        traceback.print_exc()
    elif isinstance(error, CycloptsError):
        error.verbose = False
        error = error.__cause__ if isinstance(error.__cause__, UsageError) else error
        if isinstance(error, UnusedCliTokensError):
            words = " ".join(error.unused_tokens or ())
            error = f"{words!r} belongs to no option; a name with spaces must stand in quotes"
    command = next((token for token in tokens if not token.startswith("-")), "")
    line = shorten(" ".join(ESCAPES.sub("", str(error)).split()), MAX_MESSAGE)
    print(escape_control(f"easycoreset {command}: {line}".replace(" :", ":")), file=sys.stderr)
    return code


def _show_warning(message: Warning | str, category: type[Warning], *args: object, **kwargs: object) -> None:
    if issubclass(category, EasycoresetWarning):
        print(escape_control(f"warning: {message}"), file=sys.stderr)
