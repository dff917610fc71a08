"""What a source holds: a coreset, scores, an audit, and where its data set lies."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from easycoreset.console import log
from easycoreset.errors import UsageError, quote
from easycoreset.options import ExportOptions
from easycoreset.parquet import read_shape, read_table
from easycoreset.records import read_record
from easycoreset.spelling import is_here
from easycoreset.tables import Coreset, Scores, check_same_data

FILES = {"coreset": "coreset.parquet", "scores": "scores.parquet", "audit": "audit.parquet"}
COLUMNS = ("keep", "rank", "weight")  # that a coreset adds to its scores


@dataclass(frozen=True, kw_only=True)
class Tables:
    """What a source says of each sample.

    Attributes:
        coreset: or None.
        scores: those of the source, or those that its coreset was chosen from; or None.
        audit: a table with `index`, or None.
        coreset_file: where the coreset lies.
        scores_file: where the scores lie.
    """

    coreset: Coreset | None = None
    scores: Scores | None = None
    audit: pa.Table | None = None
    coreset_file: Path | None = None
    scores_file: Path | None = None

    @property
    def either(self) -> Coreset | Scores:
        """The table that has a row a sample: both know ids, labels and provenance.

        Raises:
            UsageError: there is an audit alone.
        """
        found = self.coreset or self.scores
        if found is None:
            raise UsageError("source must be scores or a coreset for this format; got an audit")
        return found

    @property
    def class_names(self) -> list[str]:
        """A name for each class; its number where no name is known."""
        named = self.scores.class_names if self.scores is not None else self.either.provenance.get("class_names", [])
        names = [str(name) for name in named]
        return names + [str(k) for k in range(len(names), int(self.either.labels.max()) + 1)]

    def need_coreset(self, form: str) -> Coreset:
        """The coreset.

        Raises:
            UsageError: the source holds none.
        """
        if self.coreset is None:
            raise UsageError(f"source must be a coreset for format {form}, as `easycoreset select` writes it")
        return self.coreset

    def join(self) -> pa.Table:
        """A row a sample: the scores' columns, the coreset's, or the scores' with `keep`, `rank` and `weight`.

        Raises:
            UsageError: a hardness is called as a column of the coreset.
        """
        if self.scores is None or self.coreset is None:
            return plain(self.either.to_table())
        table = plain(self.scores.to_table())
        own = self.coreset.to_table()
        for name in COLUMNS:
            if name in table.column_names:
                raise UsageError(f"scores must not have a column {quote(name)}, which the coreset adds")
            table = table.append_column(name, own[name])
        return table


def read_tables(options: ExportOptions) -> Tables:
    """Read the tables of a source.

    Raises:
        UsageError: the source holds none, a broken one, or scores of other data than the coreset's.
    """
    source = options.source
    given = options.scores
    found = {kind: source / name for kind, name in FILES.items() if (source / name).exists()}
    if not source.is_dir():
        found = {_kind_of(source): source}
    if not found:
        raise UsageError(f"source: {source} holds none of {', '.join(FILES.values())}")
    audit = read_table(found["audit"], {"index": "integer"}) if "audit" in found else None
    coreset = Coreset.read(found["coreset"]) if "coreset" in found else None
    if coreset is None:
        if given is not None:
            raise UsageError(f"scores go with a coreset; got {str(given)!r} for {source}")
        scores = Scores.read(found["scores"]) if "scores" in found else None
        return Tables(scores=scores, audit=audit, scores_file=found.get("scores"))
    scores, file = _scores_of(found["coreset"], coreset) if given is None else (Scores.read(given), given)
    if scores is not None:
        _check(coreset, scores, f"scores {file}")
        log.info("hardness from %s", file)
    return Tables(coreset=coreset, scores=scores, audit=audit, coreset_file=found["coreset"], scores_file=file)


def record_beside(file: Path | None, name: str) -> dict[str, Any]:
    """The JSON object `name` beside a file, or nothing."""
    place = None if file is None else file.with_name(name)
    return read_record(place) if place is not None and place.exists() else {}


def coreset_record(tables: Tables) -> dict[str, Any]:
    """What `select` wrote beside the coreset, or nothing."""
    file = tables.coreset_file
    return {} if file is None else record_beside(file, file.with_suffix(".json").name)


def find_data(options: ExportOptions, tables: Tables) -> str | None:
    """The spelling of the data set: as given, as it was scored, or by a name that says enough; else None."""
    if options.data is not None:
        return options.data
    if not tables.either.provenance.get("fingerprint"):  # nothing tells whether what a record names is its data
        return None
    run = record_beside(tables.scores_file, "run.json")
    scored = run.get("given", {}).get("data")
    scored = scored if scored and is_here(scored) else None
    named = tables.either.provenance.get("data")
    return scored or (named if named == "digits" else None)


def _kind_of(file: Path) -> str:
    names, _ = read_shape(file)
    if "keep" in names:
        return "coreset"
    return "audit" if file.name == FILES["audit"] or "likely_mislabelled" in names else "scores"


def _scores_of(file: Path, coreset: Coreset) -> tuple[Scores | None, Path | None]:
    """The scores that a coreset was chosen from: where `select` read them, or beside it; None where they are gone."""
    named = record_beside(file, file.with_suffix(".json").name).get("options", {}).get("scores")
    known = coreset.provenance.get("fingerprint")  # without it nothing tells whether they are its scores
    places = [Path(named), file.parent / named] if isinstance(named, str) and known else []
    for place in [*places, file.with_name(FILES["scores"])]:
        if place.is_file():
            try:
                scores = Scores.read(place)
                _check(coreset, scores, f"scores {place}")
            except UsageError as error:
                log.info("no hardness: %s", error)
            else:
                return scores, place
    return None, None


def _check(coreset: Coreset, scores: Scores, what: str) -> None:
    provenance = coreset.provenance
    split = scores.provenance.get("split", "train")
    mark = str(provenance.get("fingerprint", scores.provenance.get("fingerprint", "")))
    own = (scores.sample_ids, scores.labels)
    other = (coreset.sample_ids, coreset.labels)
    check_same_data(scores.provenance, mark, provenance.get("split", split), what, own, other)


def plain(table: pa.Table) -> pa.Table:
    """The same table without dictionaries, which others' readers and writers do not all know."""
    for place, name in enumerate(table.column_names):
        if pa.types.is_dictionary(table[name].type):
            table = table.set_column(place, name, table[name].cast(pa.string()))
    return table
