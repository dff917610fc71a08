"""`COMMAND --list`: the members (methods, attacks, ...) that a command's options can name, with their options."""

import json
from collections.abc import Sequence

from easycoreset.data_specs import DATA
from easycoreset.errors import UsageError, quote
from easycoreset.members import Table, describe_members

WITH_LISTS = ("select", "train", "score", "evaluate", "compare", "run", "analyze", "export")
PARTS = ("select", "score", "train", "evaluate")  # of a plan


def _data_table() -> dict[str, Table]:
    return {"data": {name: kind.load for name, kind in DATA.items()}}


def _member_tables(command: str) -> dict[str, Table]:
    if command == "select":
        from easycoreset.selection import SELECTORS

        return {"method": SELECTORS}
    if command == "train":
        from easycoreset.dynamic import DYNAMIC_METHODS
        from easycoreset.objectives import OBJECTIVES

        return {"dynamic method": DYNAMIC_METHODS, "objective": OBJECTIVES, **_data_table()}
    if command == "score":
        from easycoreset.hardness import HARDNESS
        from easycoreset.objectives import OBJECTIVES

        return {"hardness": HARDNESS, "objective": OBJECTIVES, **_data_table()}
    if command == "evaluate":
        from easycoreset.attacks import ATTACKS, MARGINS
        from easycoreset.corruptions import CORRUPTIONS

        return {"attack": ATTACKS, "margins": MARGINS, "corruption": CORRUPTIONS, **_data_table()}
    if command in ("compare", "run"):
        return {name: table for other in PARTS for name, table in _member_tables(other).items()}
    if command == "analyze":
        tables = {**_member_tables("train"), **_member_tables("evaluate")}
        return {name: table for name, table in tables.items() if name != "dynamic method"}
    if command == "export":
        from easycoreset.options.exporting import FORMATS

        return {"format": {name: form.write or form.write_comparison for name, form in FORMATS.items()}}
    raise UsageError(f"--list must follow one of the commands {', '.join(WITH_LISTS)}; got {quote(command)}")


def _describe_published() -> list[dict[str, str]]:
    """The scores that come with the package, and how they were made."""
    from easycoreset.tables import Scores
    from easycoreset.tables.published_scores import PREFIX, published_names

    records: list[dict[str, str]] = []
    for name in published_names():
        scores = Scores.published(name)
        made = scores.provenance
        how = f"means over {len(made['published']['seeds'])} seeds of {made['model']}, {made['epochs']} epochs"
        records.append({"name": f"{PREFIX}{name}", "is": f"{', '.join(scores.columns)}; {how}"})
    return records


def list_members(tokens: Sequence[str], *, as_json: bool) -> None:
    """Print the members of the command in `tokens`."""
    command = next((token for token in tokens if not token.startswith("-")), "")
    members = {kind: describe_members(kind, table) for kind, table in _member_tables(command).items()}
    if command == "compare":
        from easycoreset.workflow.recipes import describe_recipes

        members["recipe"] = describe_recipes()
    if command in ("select", "compare"):
        members["scores"] = _describe_published()
    if as_json:
        print(json.dumps(members, indent=1))
        return
    for kind, records in members.items():
        print(f"{kind}:")
        for record in records:
            print(f"  {record['name']:18} {record['is']}")
            details = [f"{key}: {record[key]}" for key in ("options", "needs", "cost") if record.get(key)]
            if details:
                print(f"  {'':18} {'; '.join(details)}")


def print_recipe(name: str) -> None:
    """Print the YAML of a recipe."""
    from easycoreset.workflow.recipes import recipe_text

    print(recipe_text(name), end="")
