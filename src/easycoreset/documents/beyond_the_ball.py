"""What an evaluation says beside attacks: accuracy on corrupted images, and certified accuracy."""

from collections.abc import Mapping
from typing import Any

from easycoreset.documents import DataTable, Figure, Section
from easycoreset.documents.plots import axes_layout, line_trace

Json = Mapping[str, Any]
SEVERITIES = ("1", "2", "3", "4", "5")
MEANS = {
    "mean_of_eight": "mean of eight of the benchmark's 15 corruptions",
    "cifar10-c": "mean of CIFAR-10-C's 15 corruptions",
    "cifar100-c": "mean of CIFAR-100-C's 15 corruptions",
}


def describe_corruptions(summary: Json) -> list[Section]:
    """Accuracy by corruption and severity; nothing where none was measured."""
    found = summary.get("corruptions")
    if not found:
        return []
    clean = summary["clean"]["accuracy"]
    means = [
        f"The model is right on {_with_interval(found[name])} of corrupted images ({words}, at five severities), on "
        f"{100 * clean:.1f}% of ordinary ones."
        for name, words in MEANS.items()
        if name in found
    ]
    kinds = sorted(found["kinds"], key=lambda kind: kind["accuracy"])
    if len(kinds) > 1:
        worst, best = kinds[0], kinds[-1]
        means.append(
            f"Its accuracy is lowest under {plain_name(worst['corruption'])} ({100 * worst['accuracy']:.1f}%) and "
            f"highest under {plain_name(best['corruption'])} ({100 * best['accuracy']:.1f}%)."
        )
    rows = [
        [plain_name(kind["corruption"]), *_shares(kind), *(_accuracy(kind["severities"].get(s)) for s in SEVERITIES)]
        for kind in kinds
    ]
    if found["severities"]:
        by_severity = [_accuracy(found["severities"].get(severity)) for severity in SEVERITIES]
        rows.append(["mean of those computed here", None, None, None, *by_severity])
    caption = f"accuracy in % on {found['samples']} corrupted images, with 95% intervals over images; by severity"
    columns = ["corruption", "accuracy", "low", "high", *(f"severity {s}" for s in SEVERITIES)]
    traces = [
        line_trace(
            plain_name(kind["corruption"]),
            number,
            [int(s) for s in kind["severities"]],
            [100 * line["accuracy"] for line in kind["severities"].values()],
        )
        for number, kind in enumerate(kinds)
    ]
    layout = axes_layout("severity", "accuracy, %")
    layout["xaxis"]["dtick"] = 1
    plot = Figure("accuracy on corrupted images by severity", traces, layout)
    return [Section("Corrupted images", means, figures=[plot], tables=[DataTable(caption, columns, rows)], brief=True)]


def describe_certificates(summary: Json) -> list[Section]:
    """Certified accuracy over the radius; nothing where none was asked for."""
    found = summary.get("certificates")
    if not found:
        return []
    text = [
        f"Smoothed with noise of sigma {line['sigma']:g}, the model is right on "
        f"{_with_interval(line['certified'][0])}; on {_with_interval(line['certified'][-1])} it is provably right "
        f"under any change of l2 norm up to 0.5. The mean radius is {line['mean_radius']:.3f}. It abstains on "
        f"{100 * line['abstained']:.1f}%. With {line['n']} noisy images no radius exceeds {line['max_radius']:.3f}; "
        f"each certificate is wrong with a probability of at most {line['alpha']:g}."
        for line in found
    ]
    radii = [point["radius"] for point in found[0]["certified"]]
    rows = [
        [line["certificate"], *(_accuracy(point) for point in line["certified"]), line["samples"]] for line in found
    ]
    columns = ["certificate", *(f"radius {radius:g}" for radius in radii), "samples"]
    table = DataTable("certified accuracy in %, by l2 radius; abstentions are wrong", columns, rows)
    traces = [
        line_trace(
            line["certificate"],
            number,
            [point["radius"] for point in line["curve"]],
            [100 * point["accuracy"] for point in line["curve"]],
        )
        for number, line in enumerate(found)
    ]
    plot = Figure("certified accuracy over the l2 radius", traces, axes_layout("l2 radius", "certified accuracy, %"))
    return [Section("Certified radii", text, figures=[plot], tables=[table], brief=True)]


def plain_name(name: str) -> str:
    """A corruption's name in words; that of a benchmark's arrays names the benchmark."""
    kind, _, stored = name.partition(":")
    return f"{stored.replace('_', ' ')} ({kind})" if kind in MEANS else name.replace("_", " ")


def _shares(line: Json) -> list[float]:
    return [round(100 * line[name], 2) for name in ("accuracy", "low", "high")]


def _accuracy(line: Json | None) -> float | None:
    return None if line is None else round(100 * line["accuracy"], 2)


def _with_interval(line: Json) -> str:
    accuracy, low, high = _shares(line)
    return f"{accuracy:.1f}% ({low:.1f} to {high:.1f})"
