"""Export of the images that a coreset keeps to a folder."""

import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from easycoreset.console import log
from easycoreset.data import data_name, has_image_files, is_manifest, open_source
from easycoreset.data.source import Split
from easycoreset.errors import EasycoresetWarning, RunError, UsageError, quote
from easycoreset.exporting.image_names import name_image
from easycoreset.exporting.output_folders import check_replaceable, new_output_folder
from easycoreset.exporting.source_tables import SourceTables, find_data, read_tables
from easycoreset.options import ExportOptions
from easycoreset.progress import progress
from easycoreset.tables import Coreset, check_same_data
from easycoreset.tables.coreset import find_lost_classes
from easycoreset.tables.image_paths import find_image_files, require_images

BATCH_SIZE = 256  # images in memory at once


def write_folder(options: ExportOptions) -> None:
    """Write the images that a coreset keeps, one folder per class: links to (or copies of) image files, PNG of arrays.

    Names and subfolders of an image folder are preserved. Images of a manifest and of arrays are named by their index;
    `/` and `%` in a class name become `%2F` and `%25`.

    Raises:
        UsageError: the source has no coreset, the data set is missing or is another one, an id is not a path within the
            data, or `out` holds other files.
    """
    tables = read_tables(options)
    coreset = tables.require_coreset("folder")
    data = find_data(options, tables)
    if data is None:
        name = coreset.provenance.get("data", "its data set")
        raise UsageError(f"data must be given: --data is the location of {name}")
    check_replaceable(options.out)
    facts = {"data": data_name(data), "copy": options.copy, "kept": len(coreset), "provenance": coreset.provenance}
    if has_image_files(data):
        if Path(data).is_dir():
            _check_out_is_outside(Path(data), options.out)
        files = find_image_files(data, coreset.sample_ids, coreset.labels, coreset.provenance.get("fingerprint"))
        require_images([files[row] for row in coreset.index.tolist()])
        names = _name_by_index(tables, files) if is_manifest(data) else list(coreset.sample_ids)
        with new_output_folder(options.out, "folder", facts) as folder:
            link_or_copy({names[row]: files[row].resolve() for row in coreset.index.tolist()}, folder, options.copy)
    else:
        if options.copy:
            raise UsageError(f"copy is for image folders and manifests; the images of {data} are always written")
        split = _open_split(data, coreset, options)
        with new_output_folder(options.out, "folder", facts) as folder:
            _write_images(split, tables, folder)
    _warn_of_empty_classes(tables)


def _check_out_is_outside(root: Path, out: Path) -> None:
    """Refuse an output folder inside the data folder, where it would become a class, or one that contains the data."""
    data = root.resolve()
    folder = out.resolve()
    if data == folder or data in folder.parents or folder in data.parents:
        raise UsageError(f"out must lie outside the data set {str(root)!r}; got {str(out)!r}")


def _name_by_index(tables: SourceTables, files: list[Path]) -> list[str]:
    """One name per sample, since a manifest's paths need not contain the classes and may lie anywhere."""
    labels = tables.coreset_or_scores.labels.tolist()
    names = tables.class_names
    return [name_image(row, names[labels[row]], len(files), file.suffix) for row, file in enumerate(files)]


def link_or_copy(files: dict[str, Path], folder: Path, copy: bool) -> None:
    """Make links to files, or copies of them, in a folder; `files` has their names there."""
    with progress("files", len(files)) as bar:
        for name, file in files.items():
            path = folder / name
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                if copy:
                    shutil.copyfile(file, path)
                else:
                    os.symlink(file, path)
            except OSError as error:
                raise RunError(f"{quote(name)} cannot be written: {error.strerror}") from None
            bar.advance()


def _open_split(data: str, coreset: Coreset, options: ExportOptions) -> Split:
    try:
        source = open_source(data, decisions=options.decisions)
    except UsageError as error:
        raise UsageError(f"{error}" + (" (give the data set's location by --data)" * (options.data is None))) from None
    name = str(coreset.provenance.get("split", "train"))
    if name not in source.splits:
        raise UsageError(f"data: {data} has no split {quote(name)}, which the coreset was selected from")
    split = source.splits[name]
    coreset_samples = (coreset.sample_ids, coreset.labels)
    split_samples = (split.sample_ids, split.labels)
    check_same_data(coreset.provenance, split.fingerprint, name, "the coreset", coreset_samples, split_samples)
    log.info("images have the size they have in the data set: %d x %d pixels", *source.shape[1:])
    return split


def _write_images(split: Split, tables: SourceTables, folder: Path) -> None:
    rows = tables.require_coreset("folder").index
    names = tables.class_names
    with progress("images", len(rows)) as bar:
        for batch in split.batches(rows, BATCH_SIZE):
            pixels = batch.x.permute(0, 2, 3, 1).mul(255).round().byte().numpy()
            for row, label, image in zip(batch.index.tolist(), batch.y.tolist(), pixels, strict=True):
                path = folder / name_image(row, names[label], len(split))
                path.parent.mkdir(exist_ok=True)
                _save_png(image, path)
                bar.advance()


def _save_png(pixels: np.ndarray[Any, Any], path: Path) -> None:
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(path, "PNG")


def _warn_of_empty_classes(tables: SourceTables) -> None:
    emptied, _ = find_lost_classes(*tables.require_coreset("folder").class_counts())
    if len(emptied):
        names = ", ".join(tables.class_names[k] for k in emptied)
        message = f"no sample of class {names} is kept: labels derived from the folders have fewer classes"
        warnings.warn(message, EasycoresetWarning, stacklevel=3)
