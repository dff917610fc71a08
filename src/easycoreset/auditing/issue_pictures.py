"""The pictures that have an issue, each with a thumbnail, its name and a digest of its content."""

import io
from collections.abc import Iterator

import pyarrow as pa
from PIL import Image

from easycoreset.auditing.pictures import open_pictures
from easycoreset.data import Source
from easycoreset.data.content_hashes import content_digest
from easycoreset.progress import progress

SIDE = 96  # pixels of the longer side of a thumbnail, at most
SMALL = 48  # pixels up to which a thumbnail is stored without loss
QUALITY = 82  # of a JPEG
COLUMNS = {
    "part": pa.string(),
    "index": pa.int64(),
    "sample_id": pa.string(),
    "label_name": pa.string(),
    "digest": pa.string(),
    "thumbnail": pa.binary(),
}


def tabulate_pictures(issues: pa.Table, data: str, source: Source) -> pa.Table:
    """Make a table with one row for each picture that has an issue, or that another picture's issue names."""
    rows = sorted(set(_named(issues)))
    lines: list[tuple[object, ...]] = []
    readers = {name: open_pictures(data, split) for name, split in source.splits.items()}
    with progress("writing thumbnails", len(rows)) as bar:
        for part, index in rows:
            split = source.splits[part]
            label = source.class_names[split.labels[index]]
            digest = content_digest(data, split, index)
            thumbnail = encode_thumbnail(readers[part](index)[0])
            lines.append((part, index, split.sample_ids[index], label, digest, thumbnail))
            bar.advance()
    columns = list(zip(*lines, strict=True)) if lines else [()] * len(COLUMNS)
    arrays = [pa.array(values, kind) for values, kind in zip(columns, COLUMNS.values(), strict=True)]
    return pa.table(dict(zip(COLUMNS, arrays, strict=True)))


def encode_thumbnail(picture: Image.Image) -> bytes:
    """A small copy of a picture: JPEG, or PNG where it is tiny."""
    small = picture.copy()
    small.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    stream = io.BytesIO()
    if max(small.size) <= SMALL:
        small.save(stream, "PNG")
    else:
        small.save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()


def _named(issues: pa.Table) -> Iterator[tuple[str, int]]:
    """Part and row of the pictures that issues name."""
    for part, index in (("part", "index"), ("other_part", "other_index")):
        for name, row in zip(issues[part].to_pylist(), issues[index].to_pylist(), strict=True):
            if name is not None and row is not None:
                yield name, row
