"""The report of an analysis: vulnerability by hardness, margins, agreement, early scores, transfer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from easycoreset.console import say_eps
from easycoreset.records import read_record
from easycoreset.reporting.page import Figure, Grid, Section, axes, errors, line

WHO = (
    "Attacked models have other seeds than the scored one, and one of them another architecture: a model's own "
    "gradient and its own vulnerability are linked by calculus, not by the data. Held-out samples are not trained on."
)


def describe_analysis(folder: Path) -> list[Section]:
    """The sections of a folder that `analyze` wrote."""
    found = read_record(folder / "analysis.json")
    main = next(
        name
        for name in ("aign", *(row["hardness"] for row in found["vulnerability"]))
        if any(row["hardness"] == name for row in found["vulnerability"])
    )
    return [
        Section(
            "Are easy samples less vulnerable?",
            [f"{found['data']}, scored by {found['scored_by']}.", WHO],
            figures=_vulnerability(found, main),
            tables=[_side_by_side(found)],
        ),
        Section(
            "Do they lie farther from the boundary?",
            [MARGINS],
            figures=[_margins(found, main)],
            tables=[_margin_table(found)],
        ),
        Section(
            "Does hardness belong to the data?",
            [AGREEMENT],
            figures=[_matrix(found["agreement"], main)],
            tables=[_agreement_table(found["agreement"])],
        ),
        Section("Do few epochs do?", tables=[_early(found["early"])]),
        *(
            [Section("Does a small model choose for a larger one?", tables=[_transfer(found["transfer"])])]
            if found["transfer"]
            else []
        ),
    ]


MARGINS = "Margins are l2 distances that FMN found, upper bounds; 0 where a sample is wrong when clean."
AGREEMENT = "Rank correlation of the same hardness between runs, on all training samples."


def _name(row: dict[str, Any]) -> str:
    return f"{row['attacked']}, {'training' if row['split'] == 'train' else 'held-out'}"


def _vulnerability(found: dict[str, Any], main: str) -> list[Figure]:
    """Accuracy under attack and flip rate of held-out samples by part of the hardness, a line a model and eps."""
    rows = [row for row in found["vulnerability"] if row["hardness"] == main and row["split"] == "test"]
    figures: list[Figure] = []
    for what, key, bars in (
        ("adversarial accuracy", "robust", "robust_interval"),
        ("flip rate", "flip_rate", "flip_interval"),
    ):
        data = [_with_bars(row, place, key, bars) for place, row in enumerate(rows)]
        caption = f"{what} of held-out samples by equal parts of {main}, 1 the easiest, with 95% Wilson intervals"
        figures.append(Figure(caption, data, _parts(main, f"{what}, %")))
    return figures


def _parts(main: str, y: str) -> dict[str, Any]:
    layout = axes(f"part of {main}", y)
    layout["xaxis"]["dtick"] = 1
    return layout


def _with_bars(row: dict[str, Any], place: int, key: str, bars: str) -> dict[str, Any]:
    """One line, in %; a part without a value has none."""
    parts = [(part[key], part[bars]) if part[key] is not None else (float("nan"), [0.0, 0.0]) for part in row["bins"]]
    values = [100 * value for value, _ in parts]
    spread = errors([100 * high - value for value, (_, (_, high)) in zip(values, parts, strict=True)])
    lower = [value - 100 * low for value, (_, (low, _)) in zip(values, parts, strict=True)]
    name = f"{row['attacked']}, eps {say_eps(row['eps'])}"
    spread |= {"symmetric": False, "arrayminus": lower}
    return line(name, place, list(range(1, len(values) + 1)), values, error_y=spread)


def _side_by_side(found: dict[str, Any]) -> Grid:
    rows: list[list[Any]] = []
    for row in found["vulnerability"]:
        first = row["bins"][0]
        last = row["bins"][-1]
        flips = [None if part["flip_rate"] is None else 100 * part["flip_rate"] for part in (first, last)]
        robust = [100 * part["robust"] for part in (first, last)]
        rows.append([row["hardness"], _name(row), say_eps(row["eps"]), *robust, *flips, row["spearman"]])
    return Grid(
        "every hardness: the easiest and the hardest part, in %, and the rank correlation with being broken",
        [
            "hardness",
            "attacked",
            "eps",
            "robust, easiest",
            "robust, hardest",
            "flipped, easiest",
            "flipped, hardest",
            "Spearman",
        ],
        rows,
    )


def _margins(found: dict[str, Any], main: str) -> Figure:
    data = [
        line(_name(row), place, list(range(1, len(row["bins"]) + 1)), [part["mean"] for part in row["bins"]])
        for place, row in enumerate(r for r in found["margins"] if r["hardness"] == main)
    ]
    return Figure(
        f"mean l2 margin by equal parts of {main}, 1 the easiest", data, axes(f"part of {main}", "margin, l2")
    )


def _margin_table(found: dict[str, Any]) -> Grid:
    rows = [
        [row["hardness"], _name(row), row["spearman"], *(row["interval"] or [None, None]), row["samples"]]
        for row in found["margins"]
    ]
    return Grid(
        "rank correlation of hardness and margin, with 95% bootstrap intervals",
        ["hardness", "attacked", "Spearman", "low", "high", "samples"],
        rows,
    )


def _matrix(agreement: dict[str, Any], main: str) -> Figure:
    matrix = agreement[main if main in agreement else next(iter(agreement))]
    text = [["" if value is None else f"{value:.2f}" for value in row] for row in matrix["spearman"]]
    data = [
        {
            "type": "heatmap",
            "x": matrix["names"],
            "y": matrix["names"],
            "z": matrix["spearman"],
            "text": text,
            "texttemplate": "%{text}",
            "zmin": 0,
            "zmax": 1,
            "colorscale": "Viridis",
        }
    ]
    return Figure(f"rank correlation of {main} between runs", data, axes("", "", yaxis={"autorange": "reversed"}))


def _agreement_table(agreement: dict[str, Any]) -> Grid:
    """The main run against each other one."""
    rows: list[list[Any]] = []
    for column, matrix in agreement.items():
        rows += [
            [column, name, matrix["spearman"][0][place], matrix["overlap_30"][0][place]]
            for place, name in enumerate(matrix["names"])
            if place
        ]
    return Grid(
        "the scored run against the others", ["hardness", "other run", "Spearman", "easiest 30% in common"], rows
    )


def _early(rows: Sequence[dict[str, Any]]) -> Grid:
    shares = [f"overlap_{share}" for share in (10, 30, 50)]
    lines = [
        [
            f"the first {row['first']}" if row["first"] else f"every {row['every']}",
            row["epochs"],
            row["spearman"],
            *(row[share] for share in shares),
        ]
        for row in rows
    ]
    columns = ["epochs", "scored", "Spearman", "easiest 10%", "30%", "50%"]
    return Grid("AIGN of some epochs against that of all", columns, lines)


def _transfer(rows: Sequence[dict[str, Any]]) -> Grid:
    eps = [f"eps {say_eps(e['eps'])}" for e in rows[0]["worst"]]
    lines = [
        [
            row["model"],
            row["method"],
            row["fraction"],
            row["updates"],
            100 * row["clean"]["accuracy"],
            *(100 * e["accuracy"] for e in row["worst"]),
        ]
        for row in rows
    ]
    return Grid("accuracy in % of the larger model", ["model", "kept by", "fraction", "updates", "clean", *eps], lines)
