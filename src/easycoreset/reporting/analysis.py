"""The report of an analysis: vulnerability by hardness, margins, agreement, early scores, transfer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from easycoreset.console import format_eps
from easycoreset.documents import DataTable, Figure, Section
from easycoreset.documents.plots import axes_layout, error_bars, line_trace
from easycoreset.records import read_record

ATTACKED_MODELS = (
    "The attacked models have other seeds than the scored model, and one has another architecture: within one model, "
    "gradient and vulnerability are linked by calculus, not only by the data. No model was trained on held-out samples."
)


def describe_analysis(folder: Path) -> list[Section]:
    """The sections of a folder that `analyze` wrote."""
    analysis = read_record(folder / "analysis.json")
    hardness = next(
        name
        for name in ("aign", *(row["hardness"] for row in analysis["vulnerability"]))
        if any(row["hardness"] == name for row in analysis["vulnerability"])
    )
    return [
        Section(
            "Are easy samples less vulnerable?",
            [f"{analysis['data']}, scored by {analysis['scored_by']}.", ATTACKED_MODELS],
            figures=_vulnerability(analysis, hardness),
            tables=[_side_by_side(analysis)],
        ),
        Section(
            "Are easy samples farther from the decision boundary?",
            [MARGINS],
            figures=[_margins(analysis, hardness)],
            tables=[_margin_table(analysis)],
            brief=True,
        ),
        Section(
            "Is hardness a property of the data?",
            [AGREEMENT],
            figures=[_matrix(analysis["agreement"], hardness)],
            tables=[_agreement_table(analysis["agreement"])],
        ),
        Section("Do few scored epochs suffice?", tables=[_early(analysis["early"])]),
        *(
            [Section("Can a small model choose samples for a larger one?", tables=[_transfer(analysis["transfer"])])]
            if analysis["transfer"]
            else []
        ),
    ]


MARGINS = (
    "Margins are the l2 distances that FMN found, which are upper bounds; they are 0 for samples misclassified clean."
)
AGREEMENT = "Rank correlation of the same hardness between runs, over all training samples."


def _model_and_split(row: dict[str, Any]) -> str:
    return f"{row['attacked']}, {'training' if row['split'] == 'train' else 'held-out'}"


def _vulnerability(analysis: dict[str, Any], hardness: str) -> list[Figure]:
    """Accuracy under attack and flip rate of held-out samples by hardness bin, one line per model and eps."""
    rows = [row for row in analysis["vulnerability"] if row["hardness"] == hardness and row["split"] == "test"]
    figures: list[Figure] = []
    for quantity, key, interval_key in (
        ("adversarial accuracy", "robust", "robust_interval"),
        ("flip rate", "flip_rate", "flip_interval"),
    ):
        data = [_line_with_bars(row, number, key, interval_key) for number, row in enumerate(rows)]
        caption = f"{quantity} of held-out samples by equal-sized bins of {hardness}, from 1 (the easiest)"
        caption += ", with 95% Wilson intervals"
        figures.append(Figure(caption, data, _bin_axes(hardness, f"{quantity}, %")))
    return figures


def _bin_axes(hardness: str, y: str) -> dict[str, Any]:
    layout = axes_layout(f"bin of {hardness}", y)
    layout["xaxis"]["dtick"] = 1
    return layout


def _line_with_bars(row: dict[str, Any], number: int, key: str, interval_key: str) -> dict[str, Any]:
    """A line in % with error bars; bins without a value are left out."""
    pairs = [
        (part[key], part[interval_key]) if part[key] is not None else (float("nan"), [0.0, 0.0]) for part in row["bins"]
    ]
    values = [100 * value for value, _ in pairs]
    bars = error_bars([100 * high - value for value, (_, (_, high)) in zip(values, pairs, strict=True)])
    lower = [value - 100 * low for value, (_, (low, _)) in zip(values, pairs, strict=True)]
    name = f"{row['attacked']}, eps {format_eps(row['eps'])}"
    bars |= {"symmetric": False, "arrayminus": lower}
    return line_trace(name, number, list(range(1, len(values) + 1)), values, error_y=bars)


def _side_by_side(analysis: dict[str, Any]) -> DataTable:
    rows: list[list[Any]] = []
    for row in analysis["vulnerability"]:
        first = row["bins"][0]
        last = row["bins"][-1]
        flips = [None if part["flip_rate"] is None else 100 * part["flip_rate"] for part in (first, last)]
        robust = [100 * part["robust"] for part in (first, last)]
        rows.append([row["hardness"], _model_and_split(row), format_eps(row["eps"]), *robust, *flips, row["spearman"]])
    return DataTable(
        "every hardness: the easiest and the hardest bin, in %, and the rank correlation of hardness and being broken",
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


def _margins(analysis: dict[str, Any], hardness: str) -> Figure:
    data = [
        line_trace(
            _model_and_split(row), number, list(range(1, len(row["bins"]) + 1)), [part["mean"] for part in row["bins"]]
        )
        for number, row in enumerate(r for r in analysis["margins"] if r["hardness"] == hardness)
    ]
    return Figure(
        f"mean l2 margin by equal-sized bins of {hardness}, from 1 (the easiest)",
        data,
        axes_layout(f"bin of {hardness}", "margin, l2"),
    )


def _margin_table(analysis: dict[str, Any]) -> DataTable:
    """One row per hardness, attacked model and split."""
    radii = sorted({row["eps"] for row in analysis["vulnerability"]})
    eps = radii[len(radii) // 2]
    rows: list[list[Any]] = []
    for row in analysis["margins"]:
        names = ("hardness", "attacked", "split")
        same = (other for other in analysis["vulnerability"] if all(other[name] == row[name] for name in names))
        bins = next(other["bins"] for other in same if other["eps"] == eps)
        robust = [100 * bins[number]["robust"] for number in (0, -1)]
        interval = row["interval"] or [None, None]
        rows.append([row["hardness"], _model_and_split(row), row["spearman"], *interval, row["samples"], *robust])
    caption = "rank correlation of hardness and margin, with 95% bootstrap intervals; accuracy in % of the easiest and "
    caption += f"the hardest bin at eps {format_eps(eps)}"
    names = ["hardness", "attacked", "Spearman", "low", "high", "samples", "robust, easiest", "robust, hardest"]
    return DataTable(caption, names, rows, details=("samples",))


def _matrix(agreement: dict[str, Any], hardness: str) -> Figure:
    matrix = agreement[hardness if hardness in agreement else next(iter(agreement))]
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
    return Figure(
        f"rank correlation of {hardness} between runs", data, axes_layout("", "", yaxis={"autorange": "reversed"})
    )


def _agreement_table(agreement: dict[str, Any]) -> DataTable:
    """Agreement of the scored run with each other run."""
    rows: list[list[Any]] = []
    for column, matrix in agreement.items():
        rows += [
            [column, name, matrix["spearman"][0][number], matrix["overlap_30"][0][number]]
            for number, name in enumerate(matrix["names"])
            if number
        ]
    return DataTable(
        "agreement of the scored run with the others",
        ["hardness", "other run", "Spearman", "easiest 30% in common"],
        rows,
    )


def _early(rows: Sequence[dict[str, Any]]) -> DataTable:
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
    return DataTable("agreement of AIGN over some epochs with AIGN over all", columns, lines)


def _transfer(rows: Sequence[dict[str, Any]]) -> DataTable:
    eps = [f"eps {format_eps(e['eps'])}" for e in rows[0]["worst"]]
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
    return DataTable(
        "accuracy in % of the larger model", ["model", "method", "fraction", "updates", "clean", *eps], lines
    )
