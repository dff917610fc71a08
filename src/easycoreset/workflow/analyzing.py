"""`analyze`: the paper's analyses on one data set: hardness against vulnerability, margins, agreement and transfer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from easycoreset.analysis import agreement_matrix, correlate_with_margin, outcomes_by_quantile
from easycoreset.data import cached_sources
from easycoreset.errors import require
from easycoreset.hardness import CHEAP
from easycoreset.models import user_factory
from easycoreset.models.card import read_card
from easycoreset.objectives import load_objective
from easycoreset.options import READING_FIELDS, AnalyzeOptions, accept_options
from easycoreset.parquet import read_table
from easycoreset.paths import sha256_of_file
from easycoreset.process_group import preserve_rng
from easycoreset.python_objects import is_stored
from easycoreset.records import read_summary
from easycoreset.scoring import compare_early, scores_file
from easycoreset.tables import Scores
from easycoreset.tables.matching import require_same_data
from easycoreset.workflow.inputs import Data, Inputs
from easycoreset.workflow.option_checks import check_attacks
from easycoreset.workflow.plans import run_plan
from easycoreset.workflow.steps import External, Step, check_options

SPLITS = ("train", "test")
ANALYSIS = "analysis.json"
TRANSFERRED = ("easycore", "easycore:per_class=true", "random")


@accept_options(AnalyzeOptions, temporary_out="analysis")
@preserve_rng()
@cached_sources()
def analyze(options: AnalyzeOptions) -> dict[str, Any] | None:
    """Score with several models, attack models other than the analysed one, and write `analysis.json`.

    The analysed scores are those of `model` with `seed`. The attacked models are the same architecture with another
    seed and the first of the `others`, because to first order a model's input gradient determines how vulnerable this
    model is. Test samples are also scored and attacked. The same call resumes an interrupted analysis.

    Returns:
        The content of `analysis.json`: `vulnerability` (by quantile of each hardness), `margins` (rank correlation with
        its bootstrap interval, binned means), `agreement` (of seeds, architectures, objectives), `early` (few scored
        epochs against all) and `transfer` (coresets for a larger model); None if the time limit `minutes` was reached
        first.

    Raises:
        UsageError: invalid options or data, before work starts.
        GridError: some steps failed; the others are done.
    """
    analysis = Analysis(options)
    return run_plan("analyze", analysis.steps, options, ANALYSIS, analysis.summarise)


class Analysis:
    """The plan of an analysis, and what it sums up to.

    Attributes:
        steps: the steps by name, in order of importance.
        scored: the scoring runs by name: of the analysed model (`main`), another seed, other models, another objective.
        attacked: the models that are attacked, with their architectures.
    """

    def __init__(self, options: AnalyzeOptions) -> None:
        """Plan the steps; nothing is written.

        Raises:
            UsageError: wrong use.
        """
        if options.adversarial is not None:
            load_objective(options.adversarial)
        check_attacks(options.attack, options.eps)
        inputs = Inputs(options.device, options.download, options.num_workers)
        self.options = options
        self.data: Data = inputs.open(options.data, {name: getattr(options, name) for name in READING_FIELDS})
        self.model = inputs.model(self._scored_model(), None, self.data)[0]
        for name in (*options.others, *filter(None, [options.transfer])):
            inputs.model(name, None, self.data)
        self.outside = {"data": self.data.external}
        self.steps: dict[str, Step] = {}
        self.scored = self._plan_scores()
        self.test_scores = self._plan_test_scores()
        self.attacked = self._plan_attacked()
        self._plan_attacks()
        self.updates = self._plan_transfer()
        for step in self.steps.values():
            check_options(step)

    def _scored_model(self) -> str | None:
        """The model whose scores are analysed: as asked for, or that of the scores that are given.

        Raises:
            UsageError: the scores are of other data or another model, or their run kept no weights.
        """
        folder, model = self.options.scores, self.options.model
        if folder is None:
            return model
        scores = Scores.read(scores_file(folder, "train"))
        require_same_data(scores, self.data.source.splits["train"], f"scores {folder}")
        require((folder / "checkpoints").is_dir(), "scores", "a run that kept its checkpoints", str(folder))
        of_scores = str(scores.provenance.get("model"))
        require(model in (None, of_scores), "model", f"{of_scores}, as the scores are of", model)
        return of_scores

    def _plan_scores(self) -> dict[str, Step | External]:
        options = self.options
        runs: dict[str, dict[str, Any]] = {
            "main": {"model": self.model, "seed": options.seed},
            "another seed": {"model": self.model, "seed": options.seed + 1},
            **{other: {"model": other, "seed": options.seed + 2 + k} for k, other in enumerate(options.others)},
        }
        if options.adversarial is not None:
            objective = {"objective": options.adversarial}
            runs[options.adversarial] = {"model": self.model, "seed": options.seed, **objective}
        scored: dict[str, Step | External] = {}
        for name, settings in runs.items():
            common = {**self.data.reading, "epochs": options.epochs, "batch_size": options.batch_size}
            step = Step(kind="score", options=common | settings, inputs=self.outside, title=f"scoring: {name}")
            if name == "main" and options.scores is not None:
                scored[name] = External(str(options.scores), sha256_of_file(scores_file(options.scores, "train")))
            else:
                scored[name] = self.steps[f"score {name}"] = step
        return scored

    def _plan_test_scores(self) -> Step:
        measured = {"split": "test", "hardness": (CHEAP,), "model": user_factory(self.model)}
        step = Step(
            kind="measure",
            options={**self.data.reading, **measured},
            inputs=self.outside | {"scores": self.scored["main"]},
            title="scoring of the test split",
        )
        self.steps["score test"] = step
        return step

    def _plan_attacked(self) -> dict[str, tuple[Step | External, str]]:
        options = self.options
        if options.attacked:
            names = {folder: folder.name if is_stored(folder) else str(folder) for folder in options.attacked}
            return {name: (_model_folder(folder), read_card(folder).model) for folder, name in names.items()}
        names = ("another seed", *options.others[:1])
        return {name: (self.scored[name], name if name in options.others else self.model) for name in names}

    def _plan_attacks(self) -> None:
        options = self.options
        for name, (weights, model) in self.attacked.items():
            for split in SPLITS:
                shared = {**self.data.reading, "seed": 0, "split": split, "model": user_factory(model)}
                attack = {"attack": tuple(options.attack), "eps": tuple(options.eps), "limit": options.limit}
                # a cheap attack: only the margins are read
                margins = {
                    "attack": ("fgsm",),
                    "norm": "l2",
                    "eps": (0.5,),
                    "limit": options.margins,
                    "margins": ("fmn",),
                }
                for what, given in (("outcomes", attack), ("margins", margins)):
                    self.steps[f"{what} {name} {split}"] = Step(
                        kind="evaluate",
                        options=shared | given,
                        inputs=self.outside | {"weights": weights},
                        title=f"{what} of the model of {name} on split {split}",
                    )

    def _plan_transfer(self) -> int:
        """Train and evaluate a larger model on coresets by the scores of `model`, and on as many random samples."""
        options = self.options
        samples = len(self.data.source.splits["train"])
        updates = options.updates or options.epochs * -(-samples // options.batch_size)
        for method in TRANSFERRED if options.transfer is not None else ():
            shared = {**self.data.reading, "seed": options.seed}
            chosen = Step(
                kind="select",
                options=shared | {"method": method, "fraction": options.fraction},
                inputs=self.outside | {"scores": self.scored["main"]},
                title=f"choosing by {method}",
            )
            training = {"model": options.transfer, "updates": updates, "batch_size": options.batch_size}
            trained = Step(
                kind="train",
                options=shared | training,
                inputs=self.outside | {"coreset": chosen},
                title=f"training {options.transfer} on what {method} keeps",
            )
            attack = {"attack": tuple(options.attack), "eps": tuple(options.eps), "limit": options.limit}
            self.steps[f"transfer {method}"] = Step(
                kind="evaluate",
                options={**self.data.reading, **attack, "model": user_factory(options.transfer)},
                inputs=self.outside | {"weights": trained},
                title=f"evaluating {options.transfer} on what {method} keeps",
            )
        return updates

    def summarise(self, out: Path) -> dict[str, Any]:
        """The analysis, from the finished steps."""
        options = self.options
        folders = {name: _folder_of(step, out) for name, step in self.scored.items()}
        epochs = len(read_summary(folders["main"] / "run.json")["scored_epochs"])
        scored_by = f"{self.model}, seed {options.seed}, {options.epochs} epochs"
        if options.scores is not None:
            scored_by = f"{options.scores}, {epochs} epochs"
        return {
            "data": self.data.name,
            "model": self.model,
            "samples": {split: len(self.data.source.splits[split]) for split in SPLITS},
            "scored_by": scored_by,
            **self._relate(folders["main"], out),
            "agreement": _agreement(folders),
            "early": compare_early(folders["main"]),
            "transfer": self._describe_transfer(out),
        }

    def _relate(self, main: Path, out: Path) -> dict[str, Any]:
        """Relate the outcomes and margins of the attacked models to every hardness."""
        files = {"train": scores_file(main, "train"), "test": scores_file(self.test_scores.folder(out), "test")}
        vulnerability: list[dict[str, Any]] = []
        margins: list[dict[str, Any]] = []
        for name, (_, model) in self.attacked.items():
            for split in SPLITS:
                folder = self.steps[f"outcomes {name} {split}"].folder(out)
                outcomes = read_table(folder / "predictions.parquet", {"index": "integer", "broken": "bool"})
                folder = self.steps[f"margins {name} {split}"].folder(out)
                distances = read_table(folder / "margins.parquet", {"index": "integer"})
                distances = distances.filter(pc.field("attack") == distances["attack"][0])
                context = {"attacked": name, "model": model, "split": split}
                for column, values in Scores.read(files[split]).columns.items():
                    if not np.isfinite(values[distances["index"].to_numpy()]).any():
                        continue  # e.g. uncertainty after a single epoch
                    keys = context | {"hardness": column}
                    vulnerability += [keys | row for row in outcomes_by_quantile(values, outcomes, self.options.bins)]
                    margins.append(keys | correlate_with_margin(values, distances, self.options.bins))
        return {"vulnerability": vulnerability, "margins": margins}

    def _describe_transfer(self, out: Path) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for method in TRANSFERRED if self.options.transfer is not None else ():
            summary = read_summary(self.steps[f"transfer {method}"].folder(out) / "evaluation.json")
            facts = {"fraction": self.options.fraction, "updates": self.updates}
            found = {key: summary[key] for key in ("clean", "worst", "warnings")}
            rows.append({"model": self.options.transfer, "method": method, **facts, **found})
        return rows


def _model_folder(folder: Path) -> External:
    return External(str(folder.resolve()), sha256_of_file(folder / "model.safetensors"))


def _folder_of(step: Step | External, out: Path) -> Path:
    return step.folder(out) if isinstance(step, Step) else Path(step.value)


def _agreement(folders: Mapping[str, Path]) -> dict[str, Any]:
    tables = {name: Scores.read(scores_file(folder, "train")) for name, folder in folders.items()}
    first = next(iter(tables.values()))
    shared = [column for column in first.columns if all(column in table.columns for table in tables.values())]
    return {
        column: agreement_matrix({name: table[column] for name, table in tables.items()}, first.labels)
        for column in shared
    }
