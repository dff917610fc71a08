"""Predicting: labels for pictures that have none."""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor

from easycoreset.arrays import read_npz
from easycoreset.console import log, progress, say_name
from easycoreset.data.arrays import SPELLINGS, check_arrays
from easycoreset.data.draws import seed_of
from easycoreset.data.folder import check_name, find_pictures
from easycoreset.decoding import decode, find_white, say_broken
from easycoreset.errors import UsageError
from easycoreset.files import write_atomic
from easycoreset.folders import claim
from easycoreset.models.card import ModelCard, read_card
from easycoreset.models.modes import frozen
from easycoreset.models.saved import load_model
from easycoreset.options import PredictOptions, options_json, takes
from easycoreset.parquet import read_table, write_table
from easycoreset.processes import undisturbed
from easycoreset.spreadsheet import write_csv
from easycoreset.training.setup import choose_device, set_threads, to_device

TABLE = "labels.parquet"
TEXT = "labels.csv"
GREY = (0.299, 0.587, 0.114)  # of red, green and blue


@takes(PredictOptions)
@undisturbed()
def predict(options: PredictOptions) -> pa.Table:
    """Label pictures by a trained model, and write `labels.parquet`, `labels.csv` and `run.json` to `out`.

    Returns:
        `sample_id, pred, label_name, probability`, a row a picture; null where one cannot be read, which is said.

    Raises:
        UsageError: no pictures, or none that fit the model.
    """
    card = read_card(options.weights)
    device = choose_device(options.device)
    set_threads(options.threads, card.model, device)
    ids, batches = open_pictures(Path(options.data), card, options.batch_size)
    model = to_device(load_model(options.weights, options.model), device)
    weights = hashlib.sha256((options.weights / "model.safetensors").read_bytes()).hexdigest()
    seen = seed_of(*ids, *sizes_of(Path(options.data), ids))
    identity = options_json(options, neutral=False) | {"pictures": seen, "weights": weights}
    with claim(options.out, "predict", identity, overwrite=options.overwrite, places=(TABLE, TEXT)) as run:
        if run.done:
            log.info("%s is finished already", options.out)
            return read_table(run.path / TABLE, {})
        pred = np.full(len(ids), -1, np.int64)
        probability = np.zeros(len(ids), np.float32)
        broken: list[str] = []
        with progress("predicting", len(ids)) as bar, frozen(model), torch.no_grad():
            for rows, x, unread in batches:
                if len(rows):
                    p = F.softmax(model(x.to(device)).float(), 1).cpu()
                    pred[rows] = p.argmax(1).numpy()
                    probability[rows] = p.amax(1).numpy()
                broken += unread
                bar.advance(len(rows) + len(unread))
        if broken:
            log.warning("warning: %d of %d pictures cannot be read: %s", len(broken), len(ids), ", ".join(broken))
        lost = pred < 0
        names = [None if k < 0 else card.class_names[k] for k in pred]
        table = pa.table(
            {
                "sample_id": pa.array(ids, pa.string()),
                "pred": pa.array(pred, mask=lost),
                "label_name": pa.array(names, pa.string()),
                "probability": pa.array(probability, mask=lost),
            }
        )
        write_table(table, run.path / TABLE)
        write_atomic(run.path / TEXT, lambda path: write_csv(table, path, options.raw))
        counts = np.bincount(pred[~lost], minlength=len(card.class_names)).tolist()
        run.finish(
            summary={
                "model": card.model,
                "pictures": len(ids),
                "unreadable": broken,
                "counts": dict(zip(card.class_names, counts, strict=True)),
            }
        )
        return table


def sizes_of(place: Path, ids: Sequence[str]) -> list[int]:
    """Bytes of each picture; of arrays those of their file."""
    return [(place / name if place.is_dir() else place).stat().st_size for name in ids]


Batches = Iterator[tuple[np.ndarray, Tensor, list[str]]]  # (rows, images [B,C,H,W] in [0,1], what cannot be read)


def open_pictures(place: Path, card: ModelCard, batch_size: int) -> tuple[list[str], Batches]:
    """Names and batches of the pictures in a folder, in folders within it too, or in the array `x` of an .npz.

    Raises:
        UsageError: there are none, or the arrays' shape is not the model's.
    """
    square = card.shape[1] == card.shape[2] and card.shape[0] in (1, 3)
    if place.is_dir() and not square:
        raise UsageError(f"data: {place}: the model takes images of shape {card.shape}, which pictures do not have")
    if place.suffix == ".npz":
        return _open_arrays(place, card, batch_size)
    if not place.is_dir():
        raise UsageError(f"data must be a folder of images or an .npz file; got {str(place)!r}")
    files, _ = find_pictures(place)
    if not files:
        raise UsageError(f"data: {place}: holds no images")
    for file in files:
        check_name(file)
    return [file.relative_to(place).as_posix() for file in files], _decode(place, files, card, batch_size)


def _open_arrays(place: Path, card: ModelCard, batch_size: int) -> tuple[list[str], Batches]:
    names = [names[0] for names in SPELLINGS]
    held = read_npz(place, names)
    if not held:
        raise UsageError(f"data: {place}: holds no array of images ({', '.join(names)})")
    name, pixels = next(iter(held.items()))
    pixels, _ = check_arrays(f"data: {place}", pixels, np.zeros(len(pixels)), name)
    shape = (pixels.shape[3], *pixels.shape[1:3])
    if shape != card.shape:
        raise UsageError(f"data: {place}: x must hold images of shape {card.shape}, as the model takes; got {shape}")

    def batches() -> Batches:
        for start in range(0, len(pixels), batch_size):
            part = torch.from_numpy(np.ascontiguousarray(pixels[start : start + batch_size]))
            x = part.float().div(255) if part.dtype == torch.uint8 else part.float()
            yield np.arange(start, start + len(part)), x.permute(0, 3, 1, 2), []

    return [f"{name}/{row}" for row in range(len(pixels))], batches()


def _decode(place: Path, files: Sequence[Path], card: ModelCard, batch_size: int) -> Batches:
    """Decode pictures as training does, to the model's size and channels; a broken one ends nothing."""
    white = find_white(files)

    def attempt(file: Path) -> np.ndarray | str:
        try:
            return decode(file, card.shape[1], white)
        except Exception as error:  # PIL raises almost anything on broken files
            return f"{say_name(file.relative_to(place).as_posix())} ({say_broken(error)})"

    with ThreadPoolExecutor(4) as pool:
        for start in range(0, len(files), batch_size):
            found = list(pool.map(attempt, files[start : start + batch_size]))
            rows = [row for row, image in enumerate(found, start) if isinstance(image, np.ndarray)]
            pixels = [image for image in found if isinstance(image, np.ndarray)]
            x = torch.zeros(0, *card.shape)
            if pixels:
                x = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float().div(255)
            if card.shape[0] == 1 and len(x):
                x = (x * torch.tensor(GREY).view(1, 3, 1, 1)).sum(1, keepdim=True).clamp(0, 1)
            yield np.array(rows, np.int64), x, [image for image in found if isinstance(image, str)]
