"""What may be left out on the command line: `--data`, and `--out` of commands that name a folder themselves."""

from collections.abc import Sequence
from pathlib import Path

from easycoreset.console import log
from easycoreset.data_specs import MANIFESTS, data_name, split_data

DATA_FIRST = ("run", "audit", "clean", "predict")  # commands whose first word may be the data set
PLACES = {"run": "", "audit": "audit-", "predict": "predict-"}  # command -> beginning of the folder's name
RUNS = Path("runs")


def data_first_usage(command: str) -> str:
    """How a command that takes the data set as its first word is called.

    >>> data_first_usage("audit")
    'Usage: easycoreset audit DATA [OPTIONS]    (results go to runs/audit-DATA without --out)'
    """
    others = {"clean": "--decisions FILE --out PLACE ", "predict": "--weights MODEL "}.get(command, "")
    place = f"    (results go to {RUNS / (PLACES[command] + 'DATA')} without --out)" if command in PLACES else ""
    return f"Usage: easycoreset {command} DATA {others}[OPTIONS]{place}"


def insert_data_flag(tokens: Sequence[str]) -> list[str]:
    """Insert `--data` before the first word after a command.

    >>> insert_data_flag(["audit", "photos", "--quiet"])
    ['audit', '--data', 'photos', '--quiet']
    """
    command = next((token for token in tokens if not token.startswith("-")), "")
    place = list(tokens).index(command) + 1 if command else 0
    is_word = place < len(tokens) and not tokens[place].startswith("-")
    if command not in DATA_FIRST or not is_word or _value(tokens, "--data") is not None:
        return list(tokens)
    return [*tokens[:place], "--data", *tokens[place:]]


def add_place(tokens: Sequence[str]) -> list[str]:
    """Add `--out` with a folder in `runs/` that is named like the data set, and say so.

    >>> add_place(["audit", "--data", "some/photos"])
    ['audit', '--data', 'some/photos', '--out', 'runs/audit-photos']
    """
    command = next((token for token in tokens if not token.startswith("-")), "")
    data = _value(tokens, "--data")
    if command not in PLACES or not data or _value(tokens, "--out") is not None or "--help" in tokens:
        return list(tokens)
    name = data_name(data)
    name = name.removesuffix(Path(name).suffix) if Path(name).suffix in (*MANIFESTS, ".npz") else name
    name = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name).strip(".-")
    place = RUNS / f"{PLACES[command]}{name or 'data'}"
    if split_data(data)[0] is not None:
        log.info("results go to %s (--out)", place)
    return [*tokens, "--out", str(place)]


def _value(tokens: Sequence[str], flag: str) -> str | None:
    """The value of a flag, None where it is not given."""
    for position, token in enumerate(tokens):
        name, equals, value = token.partition("=")
        if name == flag:
            return value if equals else tokens[position + 1] if position + 1 < len(tokens) else ""
    return None
