"""What may be left out on the command line: the flag of the first word, and `--out` where it has a default."""

from collections.abc import Sequence
from pathlib import Path

from easycoreset.console import log
from easycoreset.data_specs import MANIFESTS, data_name, split_data

FIRST_WORDS = {  # command -> flag of which its first word may be the value
    **dict.fromkeys(("run", "audit", "clean", "predict"), "--data"),
    "report": "--out",
}
PLACES = {"run": "", "audit": "audit-", "predict": "predict-"}  # command -> beginning of the folder's name
RUNS = Path("runs")


def usage_with_first_word(command: str) -> str:
    """How a command that takes the data set or the folder as its first word is called.

    >>> usage_with_first_word("audit")
    'Usage: easycoreset audit DATA [OPTIONS]    (results go to runs/audit-DATA without --out)'
    >>> usage_with_first_word("report")
    'Usage: easycoreset report FOLDER [OPTIONS]'
    """
    word = "DATA" if FIRST_WORDS[command] == "--data" else "FOLDER"
    others = {"clean": "--decisions FILE --out PLACE ", "predict": "--weights MODEL "}.get(command, "")
    place = f"    (results go to {RUNS / (PLACES[command] + 'DATA')} without --out)" if command in PLACES else ""
    return f"Usage: easycoreset {command} {word} {others}[OPTIONS]{place}"


def insert_flag_of_first_word(tokens: Sequence[str]) -> list[str]:
    """Insert the flag before the first word after a command.

    >>> insert_flag_of_first_word(["audit", "photos", "--quiet"]), insert_flag_of_first_word(["report", "runs/grid"])
    (['audit', '--data', 'photos', '--quiet'], ['report', '--out', 'runs/grid'])
    """
    command = next((token for token in tokens if not token.startswith("-")), "")
    place = list(tokens).index(command) + 1 if command else 0
    is_word = place < len(tokens) and not tokens[place].startswith("-")
    flag = FIRST_WORDS.get(command)
    if flag is None or not is_word or _value(tokens, flag) is not None:
        return list(tokens)
    return [*tokens[:place], flag, *tokens[place:]]


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
