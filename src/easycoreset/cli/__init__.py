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

from cyclopts import CycloptsError, MissingArgumentError, Parameter, Token

from easycoreset import console
from easycoreset.cli.commands import app
from easycoreset.cli.config import with_config
from easycoreset.cli.listing import list_members
from easycoreset.cli.output import Output
from easycoreset.cli.stray import refuse_empty, say_stray
from easycoreset.cli.together import GONE, hush, is_follower, is_loss, part, refuse_alone
from easycoreset.console import printable
from easycoreset.errors import EasycoresetWarning, GridError, RunError, UsageError, shorten

__all__ = ["app", "main"]

BARE = {"--save-features": "clean", "--margins": "fmn"}  # what flags mean that may stand alone
EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_PARTIAL = 3
EXIT_INTERRUPTED = 130
ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # colours, which libraries put into their messages
LONGEST_LINE = 4000  # characters of a message
FIRST_SPEAKS = 20  # seconds in which the first of several processes says what is wrong


def _as_given(hint: object, tokens: Sequence[Token]) -> str:
    return tokens[0].value


app.meta.suppress_keyboard_interrupt = False  # main says how to go on


@app.meta.default
def launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True, converter=_as_given)],
    config: Path | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
    quiet: Annotated[bool, Parameter(negative=())] = False,
    debug: Annotated[bool, Parameter(negative=())] = False,
    list_: Annotated[bool, Parameter(name="--list", negative=())] = False,
) -> None:
    """Choose training data for robustness.

    Args:
        tokens: the command and its options.
        config: a YAML file of the command's options; a flag beats it.
        json: print one JSON object to standard output.
        quiet: no progress, only warnings.
        debug: show tracebacks.
        list_: list what the command's options can name, with their own options.
    """
    if list_:
        list_members(tokens, as_json=json)
        return
    given = with_config(list(tokens), config) if config else list(tokens)
    console.show(quiet or "--quiet" in given)
    Output.as_json = json or "--json" in given
    given = [token for token in given if token not in ("--json", "--quiet", "--debug")]
    refuse_empty(given)
    for flag, value in BARE.items():
        given = fill_bare(given, flag, value)
    app(given, exit_on_error=False, print_error=False, result_action="return_value")


def fill_bare(tokens: Sequence[str], flag: str, value: str) -> list[str]:
    """Give a flag that stands alone its value.

    >>> fill_bare(["score", "--save-features", "--out", "x"], "--save-features", "clean")
    ['score', '--save-features', 'clean', '--out', 'x']
    """
    filled: list[str] = []
    for place, token in enumerate(tokens):
        filled.append(token)
        if token == flag and (place + 1 == len(tokens) or tokens[place + 1].startswith("-")):
            filled.append(value)
    return filled


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0 done, 1 failed, 2 wrong use, 3 part of a grid failed, 130 interrupted.
    """
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    sys.path.append(os.getcwd())  # where a user's own module:factory is looked for, after what is installed
    warnings.showwarning = _show_warning
    if is_follower():
        tokens = hush(tokens)
    warnings.simplefilter("always", EasycoresetWarning)
    try:
        refuse_alone(tokens)
        app.meta(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    except BrokenPipeError:  # whoever read our output has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
        return EXIT_DONE
    except MissingArgumentError as error:
        missing = error.argument.name if error.argument else "an option"
        return _fail(f"{missing} is required{say_stray(tokens)}", EXIT_USAGE, tokens)
    except (CycloptsError, UsageError) as error:
        if is_follower():  # the first process finds the same, and the launcher ends all as soon as one has ended
            time.sleep(FIRST_SPEAKS)
        return _fail(error, EXIT_USAGE, tokens)
    except GridError as error:
        return _fail(error, EXIT_PARTIAL, tokens)
    except OSError as error:
        named = f"{shorten(str(error.filename), 200)}: " if error.filename else ""
        return _fail(f"{named}{error.strerror}" if error.strerror else error, EXIT_FAILED, tokens)
    except RunError as error:
        return _fail(error, EXIT_FAILED, tokens)
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from the last checkpoint", file=sys.stderr)
        return EXIT_INTERRUPTED
    except SystemExit as end:
        return int(end.code or 0)
    except Exception as error:  # our own bug: still one line, and how to see more
        if is_loss(error):
            return _fail(GONE, EXIT_FAILED, tokens)
        return _fail(f"{type(error).__name__}: {error} (a bug; --debug shows where)", EXIT_FAILED, tokens)
    finally:
        part()
    return EXIT_DONE


def _fail(error: BaseException | str, code: int, tokens: Sequence[str]) -> int:
    if "--debug" in tokens:
        traceback.print_exc()
    elif isinstance(error, CycloptsError):
        error.verbose = False
        error = error.__cause__ if isinstance(error.__cause__, UsageError) else error
    command = next((token for token in tokens if not token.startswith("-")), "")
    line = shorten(" ".join(ESCAPES.sub("", str(error)).split()), LONGEST_LINE)
    print(printable(f"easycoreset {command}: {line}".replace(" :", ":")), file=sys.stderr)
    return code


def _show_warning(message: Warning | str, category: type[Warning], *place: object, **more: object) -> None:
    if issubclass(category, EasycoresetWarning):
        print(printable(f"warning: {message}"), file=sys.stderr)
