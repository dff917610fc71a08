"""The report of a score folder: the distribution of hardness, the cuts of fractions, easy and hard examples."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from easycoreset.console import log
from easycoreset.data_specs import has_image_files, is_local, needs_image_size
from easycoreset.documents import Figure, SampleImage, Section
from easycoreset.documents.plots import COLOURS, axes_layout, escape_plotly_text
from easycoreset.documents.summaries import summarise_hardness
from easycoreset.errors import UsageError
from easycoreset.image_decoding import decode_image, find_white_value
from easycoreset.python_objects import kept_objects
from easycoreset.records import read_record
from easycoreset.tables import Ints, Scores
from easycoreset.tables.image_paths import find_image_files

BINS = 80
IMAGES_PER_END = 4  # easiest and hardest images shown of each class
CLASSES = 10  # classes that a gallery shows
WHITE_SAMPLE = 200  # image files from which the white level of all is found
MAX_SIDE = 1024  # pixels, of an image on the page
DEFAULT_SIDE = 64  # pixels, where the size of images in training is unknown


def describe_scores(folder: Path, fractions: Sequence[float] = (0.3, 0.5, 0.7)) -> list[Section]:
    """The sections of a folder that `score` wrote; the histogram marks the cuts of `fractions`."""
    scores = Scores.read(folder / "scores.parquet")
    main = main_column(scores)
    text = f"{len(scores)} samples in {len(scores.class_names)} classes, {int(scores.n_obs.max())} scored epochs; "
    text += f"higher is harder. {int((scores.n_obs == 0).sum())} were never observed."
    if not np.isfinite(scores[main]).any():
        return [
            Section(
                "Hardness",
                [f"{text} No sample has a finite {main}."],
                tables=[summarise_hardness(scores.columns)],
                brief=True,
            )
        ]
    figures = [draw_histogram(scores, main, fractions), draw_class_boxes(scores, main)]
    return [
        Section("Hardness", [text], figures=figures, tables=[summarise_hardness(scores.columns)], brief=True),
        describe_gallery(folder, scores, main),
    ]


def main_column(scores: Scores) -> str:
    """The hardness that is shown first."""
    return next((name for name in ("aign", "aign_online") if name in scores.columns), next(iter(scores.columns)))


def draw_histogram(scores: Scores, name: str, fractions: Sequence[float]) -> Figure:
    """A histogram, whose size does not depend on the number of samples, with the cuts of some fractions."""
    values = scores[name][np.isfinite(scores[name])].astype(float)
    positive = len(values) > 0 and 0 < values.min() * (1 + 1e-6) < values.max()
    edges = np.geomspace(values.min(), values.max(), BINS + 1) if positive else even_edges(values)
    counts = np.histogram(values, edges)[0]
    middles = np.sqrt(edges[:-1] * edges[1:]) if positive else (edges[:-1] + edges[1:]) / 2
    shapes = []
    notes = []
    for fraction in fractions:
        cut = float(np.quantile(values, fraction))
        dash = {"dash": "dash", "color": COLOURS[1]}
        shapes.append({"type": "line", "x0": cut, "x1": cut, "y0": 0, "y1": 1, "yref": "paper", "line": dash})
        position = {"x": float(np.log10(cut)) if positive else cut, "y": 1, "yref": "paper", "xanchor": "left"}
        notes.append({**position, "text": f"{fraction:.0%}", "showarrow": False})
    data = [
        {
            "type": "bar",
            "x": middles.tolist(),
            "y": counts.tolist(),
            "name": name,
            "width": np.diff(edges).tolist(),
            "marker": {"color": COLOURS[0]},
        }
    ]
    percentages = ", ".join(f"{fraction:.0%}" for fraction in fractions)
    lines = "a dashed line shows" if len(fractions) == 1 else "dashed lines show"
    caption = f"samples by {name}; {lines} where the easiest {percentages} end"
    layout = axes_layout(name, "samples", shapes=shapes, annotations=notes, bargap=0)
    if positive:
        layout["xaxis"] |= {
            "type": "log",
            "tickvals": [digit * 10.0**power for power in range(-9, 9) for digit in (1, 2, 5)],
        }
    return Figure(caption, data, layout)


def even_edges(values: np.ndarray) -> np.ndarray:
    """Edges of bins of equal width, which is positive even where all values are equal."""
    low = float(values.min())
    high = float(values.max())
    padding = 1e-3 * max(abs(low), abs(high), 1.0) if high - low <= 1e-6 * max(abs(low), abs(high)) else 0.0
    return np.linspace(low - padding, high + padding, BINS + 1)


def draw_class_boxes(scores: Scores, name: str) -> Figure:
    """Box plots of the classes, with quantiles computed here so that the page stays small."""
    names = [escape_plotly_text(name) for name in scores.class_names]
    boxes = []
    for label in range(len(names)):
        values = scores[name][(scores.labels == label) & np.isfinite(scores[name])]
        boxes.append(np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95]).tolist() if len(values) else [None] * 5)
    low, first, middle, third, high = (list(column) for column in zip(*boxes, strict=True))
    data = [
        {
            "type": "box",
            "x": names,
            "lowerfence": low,
            "q1": first,
            "median": middle,
            "q3": third,
            "upperfence": high,
            "marker": {"color": COLOURS[0]},
            "name": name,
        }
    ]
    layout = axes_layout("class", name)
    layout["xaxis"]["type"] = "category"
    return Figure(f"{name} of each class: median, quartiles, 5th and 95th percentile", data, layout)


def describe_gallery(folder: Path, scores: Scores, name: str) -> Section:
    """The easiest and the hardest samples of each class, with their ids; unreadable images are listed."""
    images = open_scored_images(folder, scores)
    if images is None:
        return Section("Easiest and hardest", ["There are no images: the data set was moved, removed or changed."])
    order = np.argsort(scores[name], kind="stable")
    order = order[np.isfinite(scores[name][order])]
    galleries: dict[str, Sequence[SampleImage]] = {}
    unreadable: list[str] = []
    for label in range(min(len(scores.class_names), CLASSES)):
        in_class = order[scores.labels[order] == label]
        for end, rows in (("easiest", in_class[:IMAGES_PER_END]), ("hardest", in_class[::-1][:IMAGES_PER_END])):
            shown = []
            for row in rows:
                title = f"{scores.sample_ids[row]} ({scores[name][row]:.3g})"
                try:
                    shown.append(SampleImage(images(int(row)), title))
                except Exception as error:  # an unreadable image raises almost anything
                    unreadable.append(f"{scores.sample_ids[row]} cannot be read: {error}")
            galleries[f"{end} of class {scores.class_names[label]}"] = shown
    text = f"Ordered by {name}, whose value follows each sample's id."
    if len(scores.class_names) > CLASSES:
        text += f" Shown are the first {CLASSES} of {len(scores.class_names)} classes."
    return Section("Easiest and hardest", [text], bullets=unreadable, galleries=galleries)


def open_scored_images(folder: Path, scores: Scores) -> Any:
    """A function from a row of the scores of a folder to a data URL; None where their images are not at hand."""
    record = read_record(folder / "run.json") if (folder / "run.json").exists() else {}
    fingerprint = str(scores.provenance.get("fingerprint", ""))
    return open_images(record, scores.provenance.get("split", "train"), scores.sample_ids, scores.labels, fingerprint)


def open_images(record: dict[str, Any], split_name: str, sample_ids: Sequence[str], labels: Ints, known: str) -> Any:
    """A function from a row to a data URL; None where the run's data set is not on this disk or has changed.

    Of image files only those that are shown are read. The record is untrusted: data whose fingerprint is not `known`
    are not shown, and nothing is downloaded.
    """
    options = record.get("given", record.get("options", {}))
    data = options.get("data")
    size = options.get("image_size")
    if not isinstance(data, str) or not known or not (is_local(data) or data in kept_objects()):
        return None
    if not isinstance(size, int | None) or (size is not None and not 8 <= size <= MAX_SIDE):
        return None
    if has_image_files(data):
        try:
            files = find_image_files(data, sample_ids, labels, known)
        except (UsageError, OSError, ValueError) as error:
            log.info("no images: %s", error)
            return None
        white = find_white_value(files[:: len(files) // WHITE_SAMPLE + 1])
        return lambda row: encode_png_url(decode_image(files[row], size or DEFAULT_SIDE, white))
    from easycoreset.data import open_source

    try:
        sized = size if needs_image_size(data) or data in kept_objects() else None
        decisions = None if options.get("decisions") is None else Path(str(options["decisions"]))
        split = open_source(data, image_size=sized, decisions=decisions).splits[split_name]
    except Exception as error:  # the data may be removed, moved or damaged
        log.info("no images: %s", error)
        return None
    if split.fingerprint != known:
        log.info("no images: the data in %s have changed", data)
        return None

    def image_url(row: int) -> str:
        pixels = next(split.batches(np.array([row]), 1)).x[0].permute(1, 2, 0).mul(255).round().byte().numpy()
        return encode_png_url(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)

    return image_url


def encode_png_url(pixels: np.ndarray) -> str:
    """An image [H,W] or [H,W,3], uint8, as a PNG in a data URL."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
