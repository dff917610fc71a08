"""What a comparison's second attack found: told beside the table, since it saw other images than the others."""

from typing import Any

from easycoreset.console import say_eps
from easycoreset.reporting.page import Grid, Section

SECOND = "On fewer images and seeds than the results above; no part of the worst case there."


def describe_second(cells: dict[str, dict[str, Any]]) -> list[Section]:
    """A row a cell that was attacked a second time, from the cells' records."""
    rows, names = list[list[Any]](), dict[str, None]()
    for record in cells.values():
        options = record["options"]
        for line in record.get("second") or ():
            names[line["attack"]] = None
            figures = [round(100 * line[name], 2) for name in ("accuracy", "low", "high")]
            rows.append([options["objective"], options["fraction"], options["method"], options["seed"],
                         say_eps(line["eps"]), line["samples"], *figures])  # fmt: skip
    if not rows:
        return []
    columns = ["objective", "kept", "method", "seed", "eps", "images", "accuracy", "low", "high"]
    grid = Grid("accuracy in % under the second attack, and its 95% interval over images", columns, rows)
    return [Section(f"Under {', '.join(names)} too", [SECOND], tables=[grid])]
