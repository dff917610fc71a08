"""Messages about empty values, unknown options and misplaced words on the command line."""

import difflib
from collections.abc import Sequence

from easycoreset.cli.commands import app
from easycoreset.cli.places import FIRST_WORDS
from easycoreset.errors import UsageError


def refuse_empty(tokens: Sequence[str]) -> None:
    """Refuse an empty value, because an empty path would be the working folder.

    Raises:
        UsageError: a value is empty; the message names the option.
    """
    for before, token in zip(["", *tokens], tokens, strict=False):
        if token == "" or (token.startswith("--") and token.endswith("=")):
            option = token.rstrip("=") if token else before
            raise UsageError(f"{option.lstrip('-') or 'an option'} must not be empty; got ''")


def describe_unknown(tokens: Sequence[str]) -> str:
    """Describe unknown options of the command and words that belong to no option; empty if there are none."""
    command = next((token for token in tokens if not token.startswith("-")), "")
    try:
        arguments = list(app[command].assemble_argument_collection())
    except Exception:  # no such command
        return ""
    flags = {name: argument for argument in arguments for name in argument.names}
    given_flags = [token.partition("=")[0] for token in tokens if token.startswith("--")]
    given_flags = [token for token in given_flags if command != "compare" or "." not in token]  # --STEP.OPTION
    unknown = [token for token in given_flags if token not in (*flags, "--json", "--quiet", "--debug", "--config")]
    messages = [f"{token} is unknown{_nearest(token, list(flags))}" for token in unknown]
    position = list(tokens).index(command) + 1
    takes_a_word = command in FIRST_WORDS
    if takes_a_word and position == len(tokens):
        word, example = ("data set", "photos") if FIRST_WORDS[command] == "--data" else ("folder", "runs/grid")
        messages.append(f"give the {word} first: easycoreset {command} {example}")
    if position < len(tokens) and not takes_a_word and not tokens[position].startswith("-") and "--data" in flags:
        messages.append(f"did you mean --data {tokens[position]}?")
    return f"; {'; '.join(messages)}" if messages else ""


def _nearest(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f": did you mean {close[0]}?" if close else ""
