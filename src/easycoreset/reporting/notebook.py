"""Results in a notebook: what their cells show, and plotly figures of them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from easycoreset.console import format_percent
from easycoreset.documents import Figure, SampleImage, Section
from easycoreset.documents.fragment import render_fragment
from easycoreset.documents.plots import COLOURS, axes_layout, escape_plotly_text
from easycoreset.documents.review import Review, thumbnail_url
from easycoreset.documents.summaries import count_classes, describe_drift, describe_outcomes, summarise_hardness
from easycoreset.errors import UsageError
from easycoreset.python_objects import name_briefly
from easycoreset.reporting.audit import describe_audit, draw_suspicion
from easycoreset.reporting.best_epochs import without_best_epochs
from easycoreset.reporting.comparison_report import describe_comparison
from easycoreset.reporting.contrasts import ComparisonResults
from easycoreset.reporting.figures import draw_frontiers
from easycoreset.reporting.score_report import describe_gallery, draw_histogram, main_column, open_scored_images
from easycoreset.statistics import group_results

PLOTTED = 6  # easiest and hardest images above a histogram
WIDTH = 0.08  # width of one of these images, as a share of the figure's
SHOWN = 24  # images of suspect samples
FRACTIONS = (0.3, 0.5, 0.7)  # whose cuts a histogram marks


def show_scores(scores: Any) -> str:
    """The quartiles of every hardness; the easiest and the hardest images of each class, where the data are at hand."""
    text = f"{len(scores)} samples in {len(scores.class_names)} classes; higher is harder."
    sections = [Section("Scores", [text], tables=[summarise_hardness(scores.columns)])]
    if scores.file is not None and scores.columns:
        gallery = describe_gallery(scores.file.parent, scores, main_column(scores))
        sections += [gallery] if gallery.galleries else []
    return render_fragment(sections)


def show_coreset(coreset: Any) -> str:
    """How many samples are kept, by which method, and of each class."""
    method = coreset.provenance.get("method", "hand")
    kept = f"{len(coreset)} of {len(coreset.keep)} samples ({format_percent(len(coreset) / len(coreset.keep))})"
    counts = _counts(coreset)
    paragraphs = [f"{kept}, by {method}.", *describe_drift(*counts)]
    return render_fragment([Section("Coreset", paragraphs, tables=[count_classes(*counts)])])


def show_evaluation(evaluation: Any) -> str:
    """The accuracies with their intervals, the warnings and the checks."""
    return render_fragment(describe_outcomes(evaluation.summary()))


def show_audit(audit: Any) -> str:
    """What was found, and the first pictures."""
    found, to_decide, *_ = describe_audit(audit.out)
    images = [] if to_decide.review is None else _first_images(to_decide.review)
    return render_fragment([replace(found, galleries={"the first of them": images} if images else {})])


def _first_images(review: Review) -> list[SampleImage]:
    """The thumbnails of the first issues."""
    found: list[SampleImage] = []
    for issue in review.issues[:SHOWN]:
        picture = review.pictures[issue.picture]
        suggestion = f", looks like {issue.suggestion}" if issue.suggestion else ""
        caption = f"{issue.kind}: {picture.sample_id}, labelled {picture.label}{suggestion}"
        found.append(SampleImage(thumbnail_url(picture.thumbnail), caption))
    return found


def show_comparison(comparison: Any) -> str:
    """The verdict and the table of accuracies."""
    found = ComparisonResults(comparison.out)
    return render_fragment([section for section in describe_comparison(found) if section.brief])


def show_folder(folder: Path) -> str:
    """What the report of a folder says in brief."""
    from easycoreset.reporting import DESCRIBERS

    found = [section for file in DESCRIBERS if (folder / file).exists() for section in DESCRIBERS[file](folder)]
    return render_fragment([section for section in found if section.brief] or found[:1])


def plot_scores(scores: Any, column: str | None = None) -> Any:
    """A histogram of a hardness, by default of the first of aign, aign_online and all others.

    Above it are the easiest and the hardest images, where the data are at hand.
    """
    name = main_column(scores) if column is None else column
    figure = to_plotly(draw_histogram(scores, name, FRACTIONS))
    images = None if scores.file is None else open_scored_images(scores.file.parent, scores)
    if images is not None:
        _add_images(figure, scores[name], images)
    return figure


def _add_images(figure: Any, hardness: Any, images: Any) -> None:
    """Add the easiest images above the left of a figure, and the hardest above its right."""
    order = np.argsort(hardness, kind="stable")
    order = order[np.isfinite(hardness[order])]
    count = min(PLOTTED, len(order) // 2)
    figure.update_layout(margin={"t": 190}, height=560)
    for end, left, rows in (
        ("easiest", 0.0, order[:count]),
        ("hardest", 1 - count * WIDTH, order[len(order) - count :]),
    ):
        words = {"text": end, "x": left, "y": 1.22, "xanchor": "left", "yanchor": "bottom"}
        figure.add_annotation(**words, xref="paper", yref="paper", showarrow=False)
        for position, row in enumerate(rows.tolist()):
            try:
                source = images(row)
            except Exception:  # an unreadable image raises almost anything
                continue
            place = {"x": left + position * WIDTH, "y": 1.03, "sizex": 0.9 * WIDTH, "sizey": 0.18, "yanchor": "bottom"}
            figure.add_layout_image(source=source, xref="paper", yref="paper", **place)


def plot_coreset(coreset: Any) -> Any:
    """The samples of each class, before and after."""
    names, before, kept = _counts(coreset)
    traces = [
        {"type": "bar", "name": name, "x": list(map(escape_plotly_text, names)), "y": list(counts)}
        | {"marker": {"color": COLOURS[number]}}
        for number, (name, counts) in enumerate((("before", before), ("kept", kept)))
    ]
    return to_plotly(Figure("samples of each class", traces, axes_layout("class", "samples")))


def plot_evaluation(evaluation: Any) -> Any:
    """Accuracy over eps with its intervals, a line for each attack."""
    return to_plotly(describe_outcomes(evaluation.summary())[0].figures[0])


def plot_audit(audit: Any) -> Any:
    """A histogram of the probability that a label is wrong."""
    return to_plotly(draw_suspicion(audit.table))


def plot_comparison(comparison: Any, number: int = 0) -> Any:
    """Robust against clean accuracy of the methods over their budgets, in the setting `number`, from 0.

    Raises:
        UsageError: there are fewer settings.
    """
    figures = draw_frontiers(group_results(without_best_epochs(comparison.results)))
    if not 0 <= number < len(figures):
        raise UsageError(f"number must be in 0..{len(figures) - 1}, one for each setting; got {number}")
    return to_plotly(figures[number])


def draw_comparison(folder: Path) -> list[tuple[str, Any]]:
    """The figures of a comparison's page in plotly, each with the title of its section."""
    sections = describe_comparison(ComparisonResults(folder))
    return [(section.title, to_plotly(figure)) for section in sections for figure in section.figures]


def to_plotly(figure: Figure) -> Any:
    """A figure of plotly, with the caption as its title."""
    import plotly.graph_objects as go

    layout = {**figure.layout, "title": {"text": figure.caption}}
    return go.Figure(**json.loads(name_briefly(json.dumps({"data": figure.traces, "layout": layout}))))


def _counts(coreset: Any) -> tuple[list[str], list[int], list[int]]:
    """The names of the classes, and how many samples of each there are and are kept."""
    classes = int(coreset.labels.max()) + 1
    names = coreset.provenance.get("class_names") or [str(label) for label in range(classes)]
    before = np.bincount(coreset.labels, minlength=len(names))
    return list(names), before.tolist(), np.bincount(coreset.labels[coreset.keep], minlength=len(names)).tolist()
