"""FiftyOne's JSON of samples and their fields."""

import json
import os
from typing import Any

from easycoreset.console import log
from easycoreset.data import is_listed
from easycoreset.exporting.pictures import are_files, name_picture
from easycoreset.exporting.sources import Tables, find_data, read_tables
from easycoreset.files import write_new
from easycoreset.options import ExportOptions
from easycoreset.tables.image_paths import find_image_files

FIELDS = "fiftyone.core.fields."
KINDS = {bool: "BooleanField", int: "IntField", float: "FloatField", str: "StringField"}
STANDARD = {
    "filepath": f"{FIELDS}StringField",
    "tags": f"{FIELDS}ListField({FIELDS}StringField)",
    "ground_truth": f"{FIELDS}EmbeddedDocumentField(fiftyone.core.labels.Classification)",
}


def write_samples(options: ExportOptions) -> None:
    """Every sample with label, hardness and a tag `kept` or `dropped`, for FiftyOne's `Dataset.from_json`.

    Where the pictures are not files, or are not found, `filepath` is relative, as `--format folder` names them:
    `from_json(OUT, rel_dir=FOLDER)`. A hardness that is not known is null.

    Raises:
        UsageError: no table, or `data` that are not the table's.
    """
    tables = read_tables(options)
    samples = describe_samples(tables, _paths(options, tables))
    provenance = tables.either.provenance
    kinds = {
        name: KINDS[type(next((s[name] for s in samples if s[name] is not None), 0.0))]
        for name in samples[0]
        if name not in (*STANDARD, "metadata")
    }
    fields = {name: FIELDS + kind for name, kind in kinds.items()}
    dataset = {
        "name": f"easycoreset-{provenance.get('data', 'samples')}",
        "media_type": "image",
        "sample_fields": STANDARD | fields,
        "info": {"easycoreset": provenance},
        "default_classes": tables.class_names,
        "samples": samples,
    }
    text = json.dumps(dataset, allow_nan=False)
    write_new(options.out, lambda path: path.write_text(text))


def describe_samples(tables: Tables, paths: list[str]) -> list[dict[str, Any]]:
    """A record a sample, as FiftyOne's `Sample.from_dict` takes it."""
    names = tables.class_names
    labelled = tables.either.provenance.get("labels") != "not given"
    columns = tables.join().to_pydict()
    del columns["label"]
    columns.pop("label_name", None)
    found: list[dict[str, Any]] = []
    for row, (path, label) in enumerate(zip(paths, tables.either.labels.tolist(), strict=True)):
        own = {name: _known(values[row]) for name, values in columns.items()}
        truth = {"_cls": "Classification", "label": names[label]} if labelled else None
        tags = [] if tables.coreset is None else ["kept" if own["keep"] else "dropped"]
        found.append({"filepath": path, "tags": tags, "metadata": None, "ground_truth": truth, **own})
    return found


def _known(value: Any) -> Any:
    return None if value is None or value != value else value


def _paths(options: ExportOptions, tables: Tables) -> list[str]:
    table = tables.either
    data = find_data(options, tables)
    listed = data is not None and is_listed(data)
    if not listed and not are_files(table.sample_ids) and options.data is None:
        log.info("filepath is relative, as --format folder names the pictures: give rel_dir to from_json")
        names = tables.class_names
        total = len(table.labels)
        return [name_picture(row, names[label], total) for row, label in enumerate(table.labels.tolist())]
    known = table.provenance.get("fingerprint")
    if data is not None and (listed or options.data is not None):
        return [os.path.abspath(file) for file in find_image_files(data, table.sample_ids, table.labels, known)]
    log.info("the pictures are not found, so filepath is relative: give --data, or rel_dir to from_json")
    return list(table.sample_ids)
