"""JSON of samples and their fields for FiftyOne."""

import json
import os
from typing import Any

from easycoreset.console import log
from easycoreset.data import has_image_files
from easycoreset.exporting.image_names import are_image_paths, name_image
from easycoreset.exporting.source_tables import SourceTables, find_data, read_tables
from easycoreset.files import write_new
from easycoreset.options import ExportOptions
from easycoreset.tables.image_paths import find_image_files

FIELD_MODULE = "fiftyone.core.fields."
FIELD_TYPES = {bool: "BooleanField", int: "IntField", float: "FloatField", str: "StringField"}
STANDARD_FIELDS = {
    "filepath": f"{FIELD_MODULE}StringField",
    "tags": f"{FIELD_MODULE}ListField({FIELD_MODULE}StringField)",
    "ground_truth": f"{FIELD_MODULE}EmbeddedDocumentField(fiftyone.core.labels.Classification)",
}


def write_samples(options: ExportOptions) -> None:
    """Write each sample with its label, hardness and a tag `kept` or `dropped`, for FiftyOne's `Dataset.from_json`.

    If the images are not files, or are not found, `filepath` is relative, as `--format folder` names the images:
    `from_json(OUT, rel_dir=FOLDER)`. An undefined hardness is null.

    Raises:
        UsageError: the source has no table, or `data` is not the table's data set.
    """
    tables = read_tables(options)
    samples = describe_samples(tables, _paths(options, tables))
    provenance = tables.coreset_or_scores.provenance
    field_types = {
        name: FIELD_TYPES[type(next((sample[name] for sample in samples if sample[name] is not None), 0.0))]
        for name in samples[0]
        if name not in (*STANDARD_FIELDS, "metadata")
    }
    fields = {name: FIELD_MODULE + field_type for name, field_type in field_types.items()}
    dataset = {
        "name": f"easycoreset-{provenance.get('data', 'samples')}",
        "media_type": "image",
        "sample_fields": STANDARD_FIELDS | fields,
        "info": {"easycoreset": provenance},
        "default_classes": tables.class_names,
        "samples": samples,
    }
    text = json.dumps(dataset, allow_nan=False)
    write_new(options.out, lambda path: path.write_text(text))


def describe_samples(tables: SourceTables, paths: list[str]) -> list[dict[str, Any]]:
    """One record per sample, in the form that FiftyOne's `Sample.from_dict` reads."""
    names = tables.class_names
    labelled = tables.coreset_or_scores.provenance.get("labels") != "not given"
    columns = tables.join_tables().to_pydict()
    del columns["label"]
    columns.pop("label_name", None)
    samples: list[dict[str, Any]] = []
    for row, (path, label) in enumerate(zip(paths, tables.coreset_or_scores.labels.tolist(), strict=True)):
        values = {name: _none_if_nan(column[row]) for name, column in columns.items()}
        truth = {"_cls": "Classification", "label": names[label]} if labelled else None
        tags = [] if tables.coreset is None else ["kept" if values["keep"] else "dropped"]
        samples.append({"filepath": path, "tags": tags, "metadata": None, "ground_truth": truth, **values})
    return samples


def _none_if_nan(value: Any) -> Any:
    return None if value is None or value != value else value


def _paths(options: ExportOptions, tables: SourceTables) -> list[str]:
    table = tables.coreset_or_scores
    data = find_data(options, tables)
    has_files = data is not None and has_image_files(data)
    if not has_files and not are_image_paths(table.sample_ids) and options.data is None:
        log.info("filepath is relative, as --format folder names the images; pass rel_dir to from_json")
        names = tables.class_names
        total = len(table.labels)
        return [name_image(row, names[label], total) for row, label in enumerate(table.labels.tolist())]
    fingerprint = table.provenance.get("fingerprint")
    if data is not None and (has_files or options.data is not None):
        return [os.path.abspath(file) for file in find_image_files(data, table.sample_ids, table.labels, fingerprint)]
    log.info("the images were not found, so filepath is relative: give --data, or pass rel_dir to from_json")
    return list(table.sample_ids)
