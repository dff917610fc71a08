"""What dynamic methods trained on: how many samples, how often each, how much of it changed, how hard it was."""

from collections.abc import Mapping, Sequence
from typing import Any

from easycoreset.documents import DataTable, Figure, Section, Share
from easycoreset.documents.plots import axes_layout, escape_plotly_text, line_trace
from easycoreset.reporting.setting_cells import SettingCells
from easycoreset.statistics.settings import OWN_SHARE, Setting, describe_share

NOTE = (
    "Methods that choose while they train see other samples in each epoch. The present loss is the loss that a step "
    "minimises (under TRADES with its divergence), as the recorder or the last pass saw it: its mean over the chosen "
    "samples, and over all samples. The age is the number of epochs since a loss was seen, for the median sample. A "
    "pass runs the model over all samples, with the objective's attack if the method asks for it; forward passes count "
    "the attack's steps. At equal updates, passes are a cost in addition to training. Where losses are weighted, batch "
    "norm and the inner attack do not use the weights."
)
COLUMNS = ("share of an epoch", "seen at all", "changed", "present loss", "of all", "age", "passes", "forward", "s")


def describe_dynamic_methods(cells: Sequence[Mapping[str, Any]]) -> list[Section]:
    """The section of a comparison, from its first seed of each row; none without such methods."""
    dynamic = [cell for cell in cells if "sampling" in cell["trained"]]
    if not dynamic:
        return []
    settings = SettingCells(Setting.of(cell) for cell in dynamic)
    first: dict[Any, Mapping[str, Any]] = {}
    for cell in sorted(dynamic, key=lambda cell: cell["seed"]):
        first.setdefault((Setting.of(cell), cell["method"], cell["updates"], cell["epochs"]), cell)
    rows = [
        [*settings.of(Setting.of(cell)), cell["method"], cell["updates"] or cell["epochs"], *_row(cell["trained"])]
        for cell in first.values()
    ]
    table = DataTable("what was trained on, first seed", [*settings.columns, "method", "budget", *COLUMNS], rows)
    figures = [draw_times(cell["trained"]["sampling"], _name(settings, cell)) for cell in first.values()]
    return [Section("Methods that choose while they train", [NOTE], tables=[table], figures=figures)]


def describe_sampling(summary: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> list[Section]:
    """The section of one training run; none without a dynamic method."""
    if "sampling" not in summary:
        return []
    sampling = summary["sampling"]
    table = DataTable("what was trained on", ["method", *COLUMNS], [[sampling["method"], *_row(summary)]])
    epochs = [line["epoch"] for line in history]
    losses = [
        line_trace(name, number, epochs, [line[key] for line in history])
        for number, (name, key) in enumerate(
            (("of what was chosen", "present_loss"), ("of all", "present_loss_of_all"))
        )
    ]
    changed = [line_trace("changed", 0, epochs, [_percent(line["changed"]) for line in history])]
    figures = [
        Figure("mean present loss by epoch", losses, axes_layout("epoch", "loss")),
        Figure("share of the choice that is new in each epoch", changed, axes_layout("epoch", "share, %")),
        draw_times(sampling, sampling["method"]),
    ]
    return [Section("What was trained on", [NOTE], tables=[table], figures=figures)]


def draw_times(sampling: Mapping[str, Any], name: str) -> Figure:
    """A histogram of how often each sample was trained on."""
    times = {int(times): count for times, count in sampling["times_trained"].items()}
    trace = {"type": "bar", "x": list(times), "y": list(times.values()), "name": escape_plotly_text(name)}
    return Figure(f"{name}: how often each sample was trained on", [trace], axes_layout("times", "samples"))


def _row(summary: Mapping[str, Any]) -> list[Any]:
    sampling = summary["sampling"]
    losses = [
        None if sampling[name] is None else round(sampling[name], 3) for name in ("present_loss", "present_loss_of_all")
    ]
    shares = [sampling["mean_share"], sampling["distinct_samples"] / summary["samples"], sampling["changed"]]
    costs = [sampling["selection_passes"], round(sampling["forward_passes"], 1), sampling["selection_seconds"]]
    age = None if sampling["median_age"] is None else round(sampling["median_age"], 1)
    return [*map(Share, shares), *losses, age, *costs]


def _name(settings: SettingCells, cell: Mapping[str, Any]) -> str:
    """A row in words, for a caption."""
    setting = Setting.of(cell)
    where = [*map(str, settings.of(setting)[:-1])]
    share = [] if setting.fraction == OWN_SHARE else [describe_share(setting.fraction)]
    return ", ".join(
        [
            *where,
            *share,
            cell["method"],
            f"{cell['updates']} updates" if cell["updates"] else f"{cell['epochs']} epochs",
        ]
    )


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
