"""Prediction: labels for unlabelled images."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor

from easycoreset.arrays import read_npz
from easycoreset.console import log, printable_name
from easycoreset.data.arrays import ARRAY_NAMES, check_arrays
from easycoreset.data.folder import check_utf8_name, list_images
from easycoreset.data.keyed_random import derive_seed
from easycoreset.devices import pass_batch_size
from easycoreset.errors import UsageError, require
from easycoreset.files import write_atomic
from easycoreset.image_decoding import decode_image, describe_read_error, find_white_value
from easycoreset.models.card import ModelCard, read_card
from easycoreset.models.modes import frozen
from easycoreset.models.saved import load_model
from easycoreset.options import PredictOptions, accept_options, options_json
from easycoreset.parquet import read_table, write_table
from easycoreset.paths import sha256_of_file
from easycoreset.plan_folders import RUN_MODELS
from easycoreset.process_group import preserve_rng
from easycoreset.progress import progress
from easycoreset.python_objects import is_object_spec, take_object
from easycoreset.records import read_record
from easycoreset.run_folders import open_run_folder
from easycoreset.spreadsheet import write_csv
from easycoreset.training.setup import choose_device, set_threads, to_device

TABLE = "labels.parquet"
CSV = "labels.csv"
LUMA_WEIGHTS = (0.299, 0.587, 0.114)  # weights of red, green and blue


@accept_options(PredictOptions, temporary_out="predictions")
@preserve_rng()
def predict(options: PredictOptions) -> pa.Table:
    """Label images with a trained model, and write `labels.parquet`, `labels.csv` and `run.json` to `out`.

    Returns:
        A table with one row per image: `sample_id`, `pred` (the class number), `label_name` and `probability`
        (calibrated if the model's temperature is known). For an unreadable image, all columns except `sample_id` are
        null, and a warning names the image.

    Raises:
        UsageError: there are no images, or they do not fit the model.
    """
    card = read_card(options.model_path)
    device = choose_device(options.device)
    set_threads(options.threads, card.model, device)
    ids, digest, batches = open_images(options.data, card, pass_batch_size(options.batch_size, device, card.shape))
    model = to_device(load_model(options.model_path, options.model), device)
    weights = sha256_of_file(options.model_path / "model.safetensors")
    temperature = find_temperature(options.model_path, card, weights) if options.calibrated else None
    identity = options_json(options, neutral=False) | {"images": digest, "weights": weights, "temperature": temperature}
    with open_run_folder(
        options.out, "predict", identity, overwrite=options.overwrite, output_names=(TABLE, CSV)
    ) as run:
        if run.done:
            log.info("%s is finished already", options.out)
            return read_table(run.path / TABLE, {})
        pred = np.full(len(ids), -1, np.int64)
        probability = np.zeros(len(ids), np.float32)
        unreadable: list[str] = []
        with progress("predicting", len(ids)) as bar, frozen(model), torch.no_grad():
            for rows, x, batch_unreadable in batches:
                if len(rows):
                    p = F.softmax(model(x.to(device)).float() / (temperature or 1.0), 1).cpu()
                    pred[rows] = p.argmax(1).numpy()
                    probability[rows] = p.amax(1).numpy()
                unreadable += batch_unreadable
                bar.advance(len(rows) + len(batch_unreadable))
        if unreadable:
            log.warning("warning: %d of %d images cannot be read: %s", len(unreadable), len(ids), ", ".join(unreadable))
        is_unreadable = pred < 0
        label_names = [None if label < 0 else card.class_names[label] for label in pred]
        table = pa.table(
            {
                "sample_id": pa.array(ids, pa.string()),
                "pred": pa.array(pred, mask=is_unreadable),
                "label_name": pa.array(label_names, pa.string()),
                "probability": pa.array(probability, mask=is_unreadable),
            }
        )
        write_table(table, run.path / TABLE)
        write_atomic(run.path / CSV, lambda path: write_csv(table, path, options.raw))
        counts = np.bincount(pred[~is_unreadable], minlength=len(card.class_names)).tolist()
        run.finish(
            summary={
                "model": card.model,
                "images": len(ids),
                "unreadable": unreadable,
                "temperature": temperature,
                "counts": dict(zip(card.class_names, counts, strict=True)),
            }
        )
        return table


def find_temperature(folder: Path, card: ModelCard, weights: str) -> float | None:
    """The temperature of a model: its card's, else that of an evaluation of these very weights; None if none is known.

    An evaluation is looked for in the model's folder, and in the folder of `run` that the model is part of.
    """
    if card.temperature is not None:
        return card.temperature
    places = [
        folder,
        *(folder.parent / "evaluation" / name for name, link in RUN_MODELS.items() if link == folder.name),
    ]
    for file in (place / "evaluation.json" for place in places):
        try:
            record = read_record(file)
        except UsageError:  # there is none, or it cannot be read
            continue
        found = record.get("summary", {}).get("calibration", {}).get("temperature")
        if found is not None and record.get("options", {}).get("weights") == weights:
            return float(found)
    log.info(
        "the probabilities are not calibrated: run evaluate --data DATA --out %s --weights %s to calibrate them",
        *[folder] * 2,
    )
    return None


Batches = Iterator[tuple[np.ndarray, Tensor, list[str]]]  # (rows, images [B,C,H,W] in [0,1], unreadable files)


def open_images(data: str, card: ModelCard, batch_size: int) -> tuple[Sequence[str], int | str, Batches]:
    """The images in a folder (with its subfolders), in the array `x` of an .npz file, or in memory.

    Returns:
        Their names, a digest of their names and sizes or of their content, and batches of them.

    Raises:
        UsageError: there are no images, or they do not have the shape that the model takes.
    """
    path = Path(data)
    if is_object_spec(data):
        return _open_object(data, card, batch_size)
    takes_image_files = card.shape[1] == card.shape[2] and card.shape[0] in (1, 3)
    if path.is_dir() and not takes_image_files:
        raise UsageError(f"data must be an .npz file for a model of shape {card.shape}; got the folder {str(path)!r}")
    if path.suffix == ".npz":
        names, batches = _open_arrays(path, card, batch_size)
        return names, derive_seed(*names, *[path.stat().st_size] * len(names)), batches
    if not path.is_dir():
        raise UsageError(f"data must be a folder of images or an .npz file; got {str(path)!r}")
    files, _ = list_images(path)
    if not files:
        raise UsageError(f"data: {path}: holds no images")
    for file in files:
        check_utf8_name(file)
    names = [file.relative_to(path).as_posix() for file in files]
    sizes = (file.stat().st_size for file in files)
    return names, derive_seed(*names, *sizes), _decode_batches(path, files, card, batch_size)


def _open_object(data: str, card: ModelCard, batch_size: int) -> tuple[Sequence[str], str, Batches]:
    images = take_object("data", data)
    pixels = images.pixels
    _check_shape("data", pixels, card)
    return [f"x/{row}" for row in range(len(pixels))], images.digest, _batch_arrays(pixels, batch_size)


def _open_arrays(path: Path, card: ModelCard, batch_size: int) -> tuple[list[str], Batches]:
    names = [array_names[0] for array_names in ARRAY_NAMES]  # the names that an array of images may have
    arrays = read_npz(path, names)
    if not arrays:
        raise UsageError(f"data: {path}: holds no array of images ({', '.join(names)})")
    name, pixels = next(iter(arrays.items()))
    no_labels = np.zeros(len(pixels))
    pixels, _ = check_arrays(f"data: {path}", pixels, no_labels, name)
    _check_shape(f"data: {path}: x", pixels, card)
    return [f"{name}/{row}" for row in range(len(pixels))], _batch_arrays(pixels, batch_size)


def _check_shape(what: str, pixels: np.ndarray, card: ModelCard) -> None:
    shape = (pixels.shape[3], *pixels.shape[1:3])
    require(shape == card.shape, what, f"images of shape {card.shape}, as the model takes", shape)


def _batch_arrays(pixels: np.ndarray, batch_size: int) -> Batches:
    for start in range(0, len(pixels), batch_size):
        batch = torch.from_numpy(np.array(pixels[start : start + batch_size]))
        x = batch.float().div(255) if batch.dtype == torch.uint8 else batch.float()
        yield np.arange(start, start + len(batch)), x.permute(0, 3, 1, 2), []


def _decode_batches(path: Path, files: Sequence[Path], card: ModelCard, batch_size: int) -> Batches:
    """Decode images as in training, to the size and channels of the model; unreadable ones are listed, not raised."""
    white = find_white_value(files)

    def try_decode(file: Path) -> np.ndarray | str:
        try:
            return decode_image(file, card.shape[1], white)
        except Exception as error:  # PIL raises almost any exception on corrupt files
            return f"{printable_name(file.relative_to(path).as_posix())} ({describe_read_error(error)})"

    with ThreadPoolExecutor(4) as pool:
        for start in range(0, len(files), batch_size):
            results = list(pool.map(try_decode, files[start : start + batch_size]))
            rows = [row for row, result in enumerate(results, start) if isinstance(result, np.ndarray)]
            pixels = [result for result in results if isinstance(result, np.ndarray)]
            x = torch.zeros(0, *card.shape)
            if pixels:
                x = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float().div(255)
            if card.shape[0] == 1 and len(x):
                x = (x * torch.tensor(LUMA_WEIGHTS).view(1, 3, 1, 1)).sum(1, keepdim=True).clamp(0, 1)
            yield np.array(rows, np.int64), x, [result for result in results if isinstance(result, str)]
