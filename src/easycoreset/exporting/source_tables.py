"""Contents of an export's source: a coreset, scores, an audit, and the location of the data set."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from easycoreset.console import log
from easycoreset.data_specs import DATA, is_local
from easycoreset.errors import UsageError, quote
from easycoreset.options import ExportOptions
from easycoreset.parquet import read_shape, read_table
from easycoreset.records import read_record
from easycoreset.tables import Coreset, Scores, check_same_data

TABLE_FILES = {"coreset": "coreset.parquet", "scores": "scores.parquet", "audit": "audit.parquet"}
CORESET_COLUMNS = ("keep", "rank", "weight")  # columns that a coreset adds to its scores


@dataclass(frozen=True, kw_only=True)
class SourceTables:
    """The tables of a source; each may be None.

    Attributes:
        coreset: the source's coreset.
        scores: the source's scores, or those that its coreset was selected from.
        audit: a table with the column `index`.
        coreset_file: path of the coreset.
        scores_file: path of the scores.
    """

    coreset: Coreset | None = None
    scores: Scores | None = None
    audit: pa.Table | None = None
    coreset_file: Path | None = None
    scores_file: Path | None = None

    @property
    def coreset_or_scores(self) -> Coreset | Scores:
        """The coreset, or else the scores: both have one row per sample, ids, labels and provenance.

        Raises:
            UsageError: the source holds only an audit.
        """
        table = self.coreset or self.scores
        if table is None:
            raise UsageError("source must be scores or a coreset for this format; got an audit")
        return table

    @property
    def class_names(self) -> list[str]:
        """The name of each class; the class number where the name is not known."""
        known = (
            self.scores.class_names
            if self.scores is not None
            else self.coreset_or_scores.provenance.get("class_names", [])
        )
        names = [str(name) for name in known]
        return names + [str(k) for k in range(len(names), int(self.coreset_or_scores.labels.max()) + 1)]

    def require_coreset(self, form: str) -> Coreset:
        """The coreset.

        Raises:
            UsageError: the source holds none.
        """
        if self.coreset is None:
            raise UsageError(f"source must be a coreset for format {form}, written by `easycoreset select`")
        return self.coreset

    def join_tables(self) -> pa.Table:
        """One row per sample: the columns of the scores, of the coreset, or of both (`keep`, `rank`, `weight` added).

        Raises:
            UsageError: a hardness has the name of a column that the coreset adds.
        """
        if self.scores is None or self.coreset is None:
            return cast_dictionaries(self.coreset_or_scores.to_table())
        table = cast_dictionaries(self.scores.to_table())
        coreset = self.coreset.to_table()
        for name in CORESET_COLUMNS:
            if name in table.column_names:
                raise UsageError(f"scores must not have a column {quote(name)}, which the coreset adds")
            table = table.append_column(name, coreset[name])
        return table


def read_tables(options: ExportOptions) -> SourceTables:
    """Read the tables of a source.

    Raises:
        UsageError: the source holds no table, an invalid one, or scores of other data than the coreset's.
    """
    source = options.source
    scores_option = options.scores
    files = {kind: source / name for kind, name in TABLE_FILES.items() if (source / name).exists()}
    if not source.is_dir():
        files = {_table_kind(source): source}
    if not files:
        raise UsageError(f"source: {source} holds none of {', '.join(TABLE_FILES.values())}")
    audit = read_table(files["audit"], {"index": "integer"}) if "audit" in files else None
    coreset = Coreset.read(files["coreset"]) if "coreset" in files else None
    if coreset is None:
        if scores_option is not None:
            raise UsageError(f"scores must be given with a coreset; got {str(scores_option)!r} for {source}")
        scores = Scores.read(files["scores"]) if "scores" in files else None
        return SourceTables(scores=scores, audit=audit, scores_file=files.get("scores"))
    if scores_option is None:
        scores, file = _find_scores(files["coreset"], coreset)
    else:
        scores, file = Scores.read(scores_option), scores_option
    if scores is not None:
        _check_same_data(coreset, scores, f"scores {file}")
        log.info("hardness from %s", file)
    return SourceTables(coreset=coreset, scores=scores, audit=audit, coreset_file=files["coreset"], scores_file=file)


def read_record_beside(file: Path | None, name: str) -> dict[str, Any]:
    """The JSON object in the file `name` beside `file`; empty if there is none."""
    path = None if file is None else file.with_name(name)
    return read_record(path) if path is not None and path.exists() else {}


def read_coreset_record(tables: SourceTables) -> dict[str, Any]:
    """The record that `select` wrote beside the coreset; empty if there is none."""
    file = tables.coreset_file
    return {} if file is None else read_record_beside(file, file.with_suffix(".json").name)


def find_data(options: ExportOptions, tables: SourceTables) -> str | None:
    """The data set's spelling: from `--data`, else from the record of scoring, else a built-in name; or None."""
    if options.data is not None:
        return options.data
    if not tables.coreset_or_scores.provenance.get("fingerprint"):  # the data set in the record could not be verified
        return None
    run = read_record_beside(tables.scores_file, "run.json")
    scored_data = run.get("given", {}).get("data")
    if scored_data and is_local(scored_data):
        return scored_data
    name = tables.coreset_or_scores.provenance.get("data")
    return name if name in DATA and not DATA[name].location else None


def _table_kind(file: Path) -> str:
    names, _ = read_shape(file)
    if "keep" in names:
        return "coreset"
    return "audit" if file.name == TABLE_FILES["audit"] or "likely_mislabelled" in names else "scores"


def _find_scores(file: Path, coreset: Coreset) -> tuple[Scores | None, Path | None]:
    """The scores that a coreset was selected from, at the recorded path or beside it, and their path; else None."""
    recorded = read_record_beside(file, file.with_suffix(".json").name).get("options", {}).get("scores")
    fingerprint = coreset.provenance.get("fingerprint")  # without it the recorded scores could not be verified
    paths = [Path(recorded), file.parent / recorded] if isinstance(recorded, str) and fingerprint else []
    for path in [*paths, file.with_name(TABLE_FILES["scores"])]:
        if path.is_file():
            try:
                scores = Scores.read(path)
                _check_same_data(coreset, scores, f"scores {path}")
            except UsageError as error:
                log.info("no hardness: %s", error)
            else:
                return scores, path
    return None, None


def _check_same_data(coreset: Coreset, scores: Scores, what: str) -> None:
    provenance = coreset.provenance
    split = scores.provenance.get("split", "train")
    fingerprint = str(provenance.get("fingerprint", scores.provenance.get("fingerprint", "")))
    scored_samples = (scores.sample_ids, scores.labels)
    coreset_samples = (coreset.sample_ids, coreset.labels)
    expected_split = provenance.get("split", split)
    check_same_data(scores.provenance, fingerprint, expected_split, what, scored_samples, coreset_samples)


def cast_dictionaries(table: pa.Table) -> pa.Table:
    """The same table with dictionary columns cast to strings, since not all other tools support dictionaries."""
    for column, name in enumerate(table.column_names):
        if pa.types.is_dictionary(table[name].type):
            table = table.set_column(column, name, table[name].cast(pa.string()))
    return table
