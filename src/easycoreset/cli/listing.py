"""`COMMAND --list`: what a command's options can name, with the options of each."""

import json
from collections.abc import Sequence

from easycoreset.errors import UsageError, nearest
from easycoreset.members import Table, describe_members

WITH_LISTS = ("select", "train", "score", "evaluate", "compare", "run", "analyze", "export")


def _tables(command: str) -> dict[str, Table]:
    if command == "select":
        from easycoreset.selection import SELECTORS

        return {"method": SELECTORS}
    if command == "train":
        from easycoreset.objectives import OBJECTIVES

        return {"objective": OBJECTIVES}
    if command == "score":
        from easycoreset.hardness import HARDNESS
        from easycoreset.objectives import OBJECTIVES

        return {"hardness": HARDNESS, "objective": OBJECTIVES}
    if command == "evaluate":
        from easycoreset.attacks import ATTACKS, MARGINS

        return {"attack": ATTACKS, "margins": MARGINS}
    if command in ("compare", "run"):
        return {**_tables("select"), **_tables("train"), **_tables("evaluate")}
    if command == "analyze":
        return {**_tables("train"), **_tables("evaluate")}
    if command == "export":
        from easycoreset.exporting import FORMATS

        return {"format": FORMATS}
    raise UsageError(f"--list belongs to a command: {nearest(command, WITH_LISTS)}")


def list_members(tokens: Sequence[str], *, as_json: bool) -> None:
    """Print the tables of the command that `tokens` begin with."""
    command = next((token for token in tokens if not token.startswith("-")), "")
    found = {kind: describe_members(kind, table) for kind, table in _tables(command).items()}
    if as_json:
        print(json.dumps(found, indent=1))
        return
    for kind, records in found.items():
        print(f"{kind}:")
        for record in records:
            print(f"  {record['name']:18} {record['is']}")
            more = [f"{key}: {record[key]}" for key in ("options", "needs", "cost") if record.get(key)]
            if more:
                print(f"  {'':18} {'; '.join(more)}")
