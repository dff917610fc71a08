"""What was given that no option takes, said beside what is missing."""

import difflib
from collections.abc import Sequence

from easycoreset.cli.commands import app
from easycoreset.errors import UsageError


def refuse_empty(tokens: Sequence[str]) -> None:
    """Refuse an empty value: an empty path would be the working folder.

    Raises:
        UsageError: the option is named.
    """
    for before, token in zip(["", *tokens], tokens, strict=False):
        if token == "" or (token.startswith("--") and token.endswith("=")):
            option = token.rstrip("=") if token else before
            raise UsageError(f"{option.lstrip('-') or 'an option'} must not be empty; got ''")


def say_stray(tokens: Sequence[str]) -> str:
    """The options that the command does not know, and words that belong to none."""
    command = next((token for token in tokens if not token.startswith("-")), "")
    try:
        arguments = list(app[command].assemble_argument_collection())
    except Exception:  # no such command
        return ""
    flags = {name: argument for argument in arguments for name in argument.names}
    given = [token.partition("=")[0] for token in tokens if token.startswith("--")]
    unknown = [token for token in given if token not in (*flags, "--json", "--quiet", "--debug", "--config")]
    said = [f"{token} is unknown{_nearest(token, list(flags))}" for token in unknown]
    place = list(tokens).index(command) + 1
    if place < len(tokens) and not tokens[place].startswith("-") and "--data" in flags:
        said.append(f"did you mean --data {tokens[place]}?")
    return f"; {'; '.join(said)}" if said else ""


def _nearest(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f": did you mean {close[0]}?" if close else ""
