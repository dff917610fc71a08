"""The report of a score folder: how hardness is spread, where a fraction would cut, what easy and hard look like."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from easycoreset.console import log
from easycoreset.decoding import decode, find_white
from easycoreset.errors import UsageError
from easycoreset.records import read_record
from easycoreset.reporting.page import COLOURS, Figure, Grid, Picture, Section, axes, plain
from easycoreset.spelling import is_here, is_listed, takes_size
from easycoreset.tables import Ints, Scores
from easycoreset.tables.image_paths import find_image_files

BINS = 80
PICTURES = 4  # of each end of each class
CLASSES = 10  # that a gallery shows
LOOKED_AT = 200  # pictures of files, by which the others' white is known
LARGEST = 1024  # side of a picture on a page
SIDE = 64  # pixels of a picture that was brought to a size which is not known


def describe_scores(folder: Path, fractions: Sequence[float] = (0.3, 0.5, 0.7)) -> list[Section]:
    """The sections of a folder that `score` wrote; the histogram shows where keeping `fractions` cuts."""
    scores = Scores.read(folder / "scores.parquet")
    main = next((name for name in ("aign", "aign_online") if name in scores.columns), next(iter(scores.columns)))
    said = f"{len(scores)} samples in {len(scores.class_names)} classes, {int(scores.n_obs.max())} scored epochs; "
    said += f"higher is harder. {int((scores.n_obs == 0).sum())} were never observed."
    if not np.isfinite(scores[main]).any():
        return [Section("Hardness", [f"{said} No sample has a value of {main}."], tables=[_table(scores)])]
    figures = [histogram(scores, main, fractions), by_class(scores, main)]
    return [Section("Hardness", [said], figures=figures, tables=[_table(scores)]), gallery(folder, scores, main)]


def histogram(scores: Scores, name: str, fractions: Sequence[float]) -> Figure:
    """Binned, so that a million samples take no more room than a thousand, with the cuts of some fractions."""
    values = scores[name][np.isfinite(scores[name])].astype(float)
    positive = len(values) > 0 and 0 < values.min() * (1 + 1e-6) < values.max()
    edges = np.geomspace(values.min(), values.max(), BINS + 1) if positive else _even_edges(values)
    counts = np.histogram(values, edges)[0]
    middles = np.sqrt(edges[:-1] * edges[1:]) if positive else (edges[:-1] + edges[1:]) / 2
    shapes = []
    notes = []
    for share in fractions:
        cut = float(np.quantile(values, share))
        dash = {"dash": "dash", "color": COLOURS[1]}
        shapes.append({"type": "line", "x0": cut, "x1": cut, "y0": 0, "y1": 1, "yref": "paper", "line": dash})
        place = {"x": float(np.log10(cut)) if positive else cut, "y": 1, "yref": "paper", "xanchor": "left"}
        notes.append({**place, "text": f"{share:.0%}", "showarrow": False})
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
    shares = ", ".join(f"{share:.0%}" for share in fractions)
    caption = f"samples by {name}; the dashed lines are where keeping the easiest {shares} cuts"
    layout = axes(name, "samples", shapes=shapes, annotations=notes, bargap=0)
    if positive:
        layout["xaxis"]["type"] = "log"
    return Figure(caption, data, layout)


def _even_edges(values: np.ndarray) -> np.ndarray:
    """Edges of bins of one width, which is never nothing: all values may be the same."""
    low = float(values.min())
    high = float(values.max())
    room = 1e-3 * max(abs(low), abs(high), 1.0) if high - low <= 1e-6 * max(abs(low), abs(high)) else 0.0
    return np.linspace(low - room, high + room, BINS + 1)


def by_class(scores: Scores, name: str) -> Figure:
    """Quartiles of each class, computed here."""
    names = [plain(name) for name in scores.class_names]
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
    layout = axes("class", name)
    layout["xaxis"]["type"] = "category"
    return Figure(f"{name} of each class: median, quartiles, 5th and 95th percentile", data, layout)


def _table(scores: Scores) -> Grid:
    rows = []
    for name, values in scores.columns.items():
        known = values[np.isfinite(values)].astype(float)
        quantiles = np.quantile(known, [0, 0.25, 0.5, 0.75, 1]).tolist() if len(known) else [None] * 5
        rows.append([name, *quantiles, len(values) - len(known)])
    columns = ["hardness", "easiest", "quarter", "median", "three quarters", "hardest", "not defined"]
    return Grid("every hardness", columns, rows)


def gallery(folder: Path, scores: Scores, name: str) -> Section:
    """The easiest and the hardest samples of each class, with their ids; a picture that cannot be read is named."""
    record = read_record(folder / "run.json") if (folder / "run.json").exists() else {}
    known = str(scores.provenance.get("fingerprint", ""))
    images = open_images(record, scores.provenance.get("split", "train"), scores.sample_ids, scores.labels, known)
    if images is None:
        return Section("Easiest and hardest", ["The data set is not where it was, so there are no pictures."])
    order = np.argsort(scores[name], kind="stable")
    order = order[np.isfinite(scores[name][order])]
    galleries: dict[str, Sequence[Picture]] = {}
    unreadable: list[str] = []
    for label in range(min(len(scores.class_names), CLASSES)):
        own = order[scores.labels[order] == label]
        for end, rows in (("easiest", own[:PICTURES]), ("hardest", own[::-1][:PICTURES])):
            pictures = []
            for row in rows:
                title = f"{scores.sample_ids[row]} ({scores[name][row]:.3g})"
                try:
                    pictures.append(Picture(images(int(row)), title))
                except Exception as error:  # a broken picture raises almost anything
                    unreadable.append(f"{scores.sample_ids[row]} cannot be read: {error}")
            galleries[f"{end} of class {scores.class_names[label]}"] = pictures
    says = f"By {name}, which stands beside each sample's id."
    if len(scores.class_names) > CLASSES:
        says += f" The first {CLASSES} of {len(scores.class_names)} classes."
    return Section("Easiest and hardest", [says], points=unreadable, galleries=galleries)


def open_images(record: dict[str, Any], split_name: str, sample_ids: Sequence[str], labels: Ints, known: str) -> Any:
    """A function from a row to a data URL, or None where a run's data set is not on this disk, or is another.

    Of pictures in files only those that are shown are read. The record may have come from anywhere: nothing is shown of
    data whose fingerprint is not `known`, and nobody is asked for any.
    """
    given = record.get("given", record.get("options", {}))
    data = given.get("data")
    size = given.get("image_size")
    if not isinstance(data, str) or not known or not is_here(data):
        return None
    if not isinstance(size, int | None) or (size is not None and not 8 <= size <= LARGEST):
        return None
    if is_listed(data):
        try:
            files = find_image_files(data, sample_ids, labels, known)
        except (UsageError, OSError, ValueError) as error:
            log.info("no pictures: %s", error)
            return None
        white = find_white(files[:: len(files) // LOOKED_AT + 1])
        return lambda row: data_url(decode(files[row], size or SIDE, white))
    from easycoreset.data import open_source

    try:
        split = open_source(data, image_size=size if takes_size(data) else None).splits[split_name]
    except Exception as error:  # it may be gone, moved or broken
        log.info("no pictures: %s", error)
        return None
    if split.fingerprint != known:
        log.info("no pictures: %s is other data", data)
        return None

    def picture(row: int) -> str:
        pixels = next(split.batches(np.array([row]), 1)).x[0].permute(1, 2, 0).mul(255).round().byte().numpy()
        return data_url(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)

    return picture


def data_url(pixels: np.ndarray) -> str:
    """A picture [H,W] or [H,W,3] as a PNG in a URL."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
