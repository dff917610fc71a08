"""The result of an evaluation: its outcomes and checks, as JSON, as a table, and read back."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from easycoreset.console import format_eps
from easycoreset.data import Split
from easycoreset.errors import UsageError
from easycoreset.evaluation.checks import Check
from easycoreset.evaluation.outcomes import Outcome, summarise_outcome
from easycoreset.members import load_attribute
from easycoreset.parquet import read_table
from easycoreset.records import read_summary


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        clean: the outcome without an attack.
        attacked: an outcome for each attack and eps.
        worst: an outcome for each eps, in which a sample is broken if any attack broke it.
        checks: the checks, each with its measured value.
    """

    clean: Outcome
    attacked: list[Outcome]
    worst: list[Outcome]
    checks: list[Check]

    @property
    def warnings(self) -> list[str]:
        """The messages of the checks that failed."""
        return [check.message for check in self.checks if not check.passed]

    def __repr__(self) -> str:
        """The accuracies, in one line."""
        worst = ", ".join(f"{format_eps(outcome.eps)}: {outcome.accuracy:.4f}" for outcome in self.worst)
        return f"Evaluation of {len(self.clean.index)} samples: clean {self.clean.accuracy:.4f}, under attack {worst}"

    def _repr_html_(self) -> str:
        return load_attribute("result", "easycoreset.reporting.notebook:show_evaluation")(self)

    def plot(self) -> Any:
        """A plotly figure: accuracy over eps with 95% Wilson intervals, a line for each attack."""
        return load_attribute("result", "easycoreset.reporting.notebook:plot_evaluation")(self)

    def summary(self) -> dict[str, Any]:
        """The outcomes and checks as JSON values, with 95% Wilson intervals."""
        return {
            "clean": summarise_outcome(self.clean),
            "attacked": [summarise_outcome(outcome) for outcome in self.attacked],
            "worst": [summarise_outcome(outcome) for outcome in self.worst],
            "checks": [dataclasses.asdict(check) | ({"message": ""} if check.passed else {}) for check in self.checks],
            "warnings": self.warnings,
        }

    def to_table(self, split: Split) -> pa.Table:
        """Convert to a table with one row per sample and attack; without an attack, eps is 0.

        Args:
            split: the split that was evaluated.

        Returns:
            A table with the columns `index, sample_id, label, attack, norm, eps, pred, broken`.
        """
        outcomes = [self.clean, *self.attacked]
        ids = pa.array([split.sample_ids[row] for row in self.clean.index.tolist()], pa.string()).dictionary_encode()
        columns = {
            "index": np.concatenate([outcome.index for outcome in outcomes]),
            "sample_id": pa.chunked_array([ids] * len(outcomes)),
            "label": np.concatenate([split.labels[outcome.index] for outcome in outcomes]),
            "attack": pa.array(
                np.repeat([outcome.attack for outcome in outcomes], [len(outcome.index) for outcome in outcomes])
            ),
            "norm": pa.array(
                np.repeat([outcome.norm for outcome in outcomes], [len(outcome.index) for outcome in outcomes])
            ),
            "eps": np.repeat([outcome.eps for outcome in outcomes], [len(outcome.index) for outcome in outcomes]),
            "pred": np.concatenate([outcome.pred for outcome in outcomes]),
            "broken": np.concatenate([outcome.broken for outcome in outcomes]),
        }
        return pa.table(columns)


def read_evaluation(folder: Path) -> Evaluation:
    """Read a finished evaluation from its folder.

    Raises:
        UsageError: `predictions.parquet` is missing or damaged, or does not match `evaluation.json`.
    """
    table = read_table(folder / "predictions.parquet", {"index": "integer", "pred": "integer", "broken": "bool"})
    columns = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
    summary = read_summary(folder / "evaluation.json")
    entries = (summary["clean"], *summary["attacked"])
    sample_counts = {entry["samples"] for entry in entries}
    outcomes: list[Outcome] = []
    for entry in entries:
        rows = (columns["attack"] == entry["attack"]) & (columns["eps"] == entry["eps"])
        index, pred, broken = (columns[name][rows] for name in ("index", "pred", "broken"))
        stages = entry.get("stages", {})
        if not np.array_equal(index, outcomes[0].index if outcomes else index) or {len(index)} != sample_counts:
            raise UsageError(f"{folder / 'predictions.parquet'} does not hold the outcomes that evaluation.json lists")
        outcomes.append(Outcome(entry["attack"], entry["norm"], entry["eps"], index, pred, broken, stages))
    checks = [
        Check(**{field.name: check[field.name] for field in dataclasses.fields(Check)}) for check in summary["checks"]
    ]
    return Evaluation(clean=outcomes[0], attacked=outcomes[1:], worst=worst_case(outcomes[1:]), checks=checks)


def worst_case(attacked: Sequence[Outcome]) -> list[Outcome]:
    """The worst-case outcome for each eps: a sample is broken if any attack broke it.

    Raises:
        UsageError: there are no outcomes.
    """
    worst: dict[float, Outcome] = {}
    for outcome in attacked:
        earlier = worst.get(outcome.eps)
        broken = outcome.broken if earlier is None else outcome.broken | earlier.broken
        pred = outcome.pred if earlier is None else np.where(earlier.broken, earlier.pred, outcome.pred)
        worst[outcome.eps] = Outcome("worst", outcome.norm, outcome.eps, outcome.index, pred, broken)
    if not worst:
        raise UsageError("attack: at least one is needed")
    return list(worst.values())
