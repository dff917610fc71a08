"""A folder of the pictures that a coreset keeps."""

import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from easycoreset.console import log, progress
from easycoreset.data import is_listed, is_manifest, name_data, open_source
from easycoreset.data.source import Split
from easycoreset.errors import EasycoresetWarning, RunError, UsageError, quote
from easycoreset.exporting.pictures import name_picture
from easycoreset.exporting.places import check_free, fresh_folder
from easycoreset.exporting.sources import Tables, find_data, read_tables
from easycoreset.options import ExportOptions
from easycoreset.tables import Coreset, check_same_data
from easycoreset.tables.image_paths import find_image_files, require_images

CHUNK = 256  # pictures in memory at once


def write_folder(options: ExportOptions) -> None:
    """The pictures a coreset keeps, a folder a class: links to files that the data set has (or copies), PNG of arrays.

    An image folder's own names and subfolders stay. Pictures of a manifest and of arrays are called by their index;
    `/` and `%` in a class name become `%2F` and `%25`.

    Raises:
        UsageError: no coreset, data that are gone or other data, an id that is no path within the data, a place that
            holds something else.
    """
    tables = read_tables(options)
    coreset = tables.need_coreset("folder")
    data = find_data(options, tables)
    if data is None:
        named = coreset.provenance.get("data", "its data set")
        raise UsageError(f"data must be given: --data says where {named} lies")
    check_free(options.out)
    facts = {"data": name_data(data), "copy": options.copy, "kept": len(coreset), "provenance": coreset.provenance}
    if is_listed(data):
        if Path(data).is_dir():
            _check_apart(Path(data), options.out)
        files = find_image_files(data, coreset.sample_ids, coreset.labels, coreset.provenance.get("fingerprint"))
        require_images([files[row] for row in coreset.index.tolist()])
        names = _name_again(tables, files) if is_manifest(data) else list(coreset.sample_ids)
        with fresh_folder(options.out, "folder", facts) as place:
            _place_files({names[row]: files[row].resolve() for row in coreset.index.tolist()}, place, options.copy)
    else:
        if options.copy:
            raise UsageError(f"copy is for image folders and manifests; the pictures of {data} are written in any case")
        split = _open_split(data, coreset, given=options.data is not None)
        with fresh_folder(options.out, "folder", facts) as place:
            _write_pictures(split, tables, place)
    _warn_of_empty_classes(tables)


def _check_apart(root: Path, out: Path) -> None:
    """Refuse a place within the data, which would become one of its classes, or around them."""
    data = root.resolve()
    place = out.resolve()
    if data == place or data in place.parents or place in data.parents:
        raise UsageError(f"out must lie outside the data set {str(root)!r}; got {str(out)!r}")


def _name_again(tables: Tables, files: list[Path]) -> list[str]:
    """A name a sample, since a manifest's paths need not tell the classes and may lie anywhere."""
    labels = tables.either.labels.tolist()
    names = tables.class_names
    return [name_picture(row, names[labels[row]], len(files), file.suffix) for row, file in enumerate(files)]


def _place_files(files: dict[str, Path], place: Path, copy: bool) -> None:
    with progress("files", len(files)) as bar:
        for name, file in files.items():
            new = place / name
            try:
                new.parent.mkdir(parents=True, exist_ok=True)
                if copy:
                    shutil.copyfile(file, new)
                else:
                    os.symlink(file, new)
            except OSError as error:
                raise RunError(f"{quote(name)} cannot be written: {error.strerror}") from None
            bar.advance()


def _open_split(data: str, coreset: Coreset, given: bool) -> Split:
    try:
        source = open_source(data)
    except UsageError as error:
        raise UsageError(f"{error}" + ("" if given else " (--data says where the data set lies now)")) from None
    name = str(coreset.provenance.get("split", "train"))
    if name not in source.splits:
        raise UsageError(f"data: {data} has no split {quote(name)}, of which the coreset is")
    split = source.splits[name]
    own = (coreset.sample_ids, coreset.labels)
    other = (split.sample_ids, split.labels)
    check_same_data(coreset.provenance, split.fingerprint, name, "the coreset", own, other)
    log.info("pictures as the data set gives them: %d x %d pixels", *source.shape[1:])
    return split


def _write_pictures(split: Split, tables: Tables, place: Path) -> None:
    rows = tables.need_coreset("folder").index
    names = tables.class_names
    with progress("pictures", len(rows)) as bar:
        for batch in split.batches(rows, CHUNK):
            pixels = batch.x.permute(0, 2, 3, 1).mul(255).round().byte().numpy()
            for row, label, picture in zip(batch.index.tolist(), batch.y.tolist(), pixels, strict=True):
                new = place / name_picture(row, names[label], len(split))
                new.parent.mkdir(exist_ok=True)
                _save(picture, new)
                bar.advance()


def _save(pixels: np.ndarray[Any, Any], path: Path) -> None:
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(path, "PNG")


def _warn_of_empty_classes(tables: Tables) -> None:
    before, after = tables.need_coreset("folder").class_counts()
    lost = [tables.class_names[k] for k in np.flatnonzero((before > 0) & (after == 0))]
    if lost:
        said = f"no sample of class {', '.join(lost)} is kept: whoever numbers the folders numbers fewer classes"
        warnings.warn(said, EasycoresetWarning, stacklevel=3)
