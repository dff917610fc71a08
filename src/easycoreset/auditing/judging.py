"""Judges of the labels: models that predict samples which they were not trained on, or least on."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from easycoreset.auditing.oddness import measure_oddness
from easycoreset.console import log
from easycoreset.data import Source, Split
from easycoreset.data.unscored import unscored_table
from easycoreset.devices import pass_batch_size
from easycoreset.errors import UsageError, require
from easycoreset.feature_extraction import compute_features
from easycoreset.file_lists import delete_written
from easycoreset.files import write_atomic
from easycoreset.models.last_layer import LastLayer, find_last_layer
from easycoreset.models.modes import frozen
from easycoreset.models.saved import load_model
from easycoreset.options import AuditOptions, TrainOptions
from easycoreset.options.fields import values_of
from easycoreset.options.groups import ComputeOptions, ModelOptions
from easycoreset.process_group import preserve_rng
from easycoreset.progress import progress
from easycoreset.tables.foreign_features import with_features
from easycoreset.training import fit, fresh_model
from easycoreset.training.budget import EPOCHS, choose_batch, choose_epochs
from easycoreset.training.checkpoint import CHECKPOINT_FILE
from easycoreset.training.setup import TrainingSetup, prepare, to_device, with_rows

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]

FOLDS = 3
MAX_REPEATS = 3  # of all folds, whose predictions are averaged
FINE_TUNING_EPOCHS = 20
JUDGING = "judging"  # folder of what the folds predict
FLOPS = {"cpu": 8e12, "mps": 8e13, "cuda": 2e15}  # of all folds: some five minutes of one CPU core
CHEAP_EPOCHS = 8  # that the folds must be able to train within them
MAX_MODELS = 8  # models of scored epochs over which predictions are averaged, at most
FINE_TUNING = 0.03  # learning rate of models that begin with initial weights
STRENGTHS = (1.0, 0.1, 0.01, 0.001)  # inverse regularisation, among which logistic regression chooses


@dataclass(frozen=True)
class Judgement:
    """What a judge says about every sample.

    Attributes:
        kind: folds, epochs or features.
        p: part -> [N, classes] probabilities.
        oddness: part -> [N] how far a sample lies from others, 1 for the median; empty where it is not known.
        facts: how the judge was made.
    """

    kind: str
    p: Mapping[str, Floats]
    oddness: Mapping[str, Floats] = field(default_factory=dict[str, Floats])
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def out_of_sample(self) -> bool:
        """Whether the judge was not trained on the training samples that it predicts."""
        return self.kind != "epochs"


@dataclass(frozen=True)
class JudgePlan:
    """How the labels are judged.

    Attributes:
        kind: folds, epochs or features.
        models: for epochs, the models whose predictions are averaged.
        setup: for folds, the training on all samples.
        repeats: how often all folds are trained, each time divided anew.
    """

    kind: str
    models: Sequence[Path] = ()
    setup: TrainingSetup | None = None
    repeats: int = 1

    def identity(self) -> dict[str, Any]:
        """What determines the judgement besides the options."""
        if self.setup is None:
            return {"judge": self.kind}
        setup = self.setup
        init = None if setup.initial_weights is None else setup.initial_weights.digest
        return {
            "judge": self.kind,
            "judge_epochs": setup.epochs,
            "judge_repeats": self.repeats,
            "judge_batch": setup.options.batch_size,
            "judge_model": setup.model_name,
            "init": init,
        }


def plan_judge(options: AuditOptions, source: Source, models: Sequence[Path], device: torch.device) -> JudgePlan:
    """Choose the judge that is not given: features where they are, folds where these are cheap or nothing else is.

    Raises:
        UsageError: no such judge here, or initial weights that do not fit.
    """
    if options.features is not None:
        return JudgePlan("features")
    if options.judge == "epochs":
        require(bool(models), "judge", "folds without the models of scored epochs", options.judge)
        return JudgePlan("epochs", models)
    setup = _prepare_folds(options, source)
    affordable = affordable_epochs(fresh_model(setup), source, device)
    is_free = options.judge is None and options.init is None and options.epochs is None
    if is_free and models and affordable < CHEAP_EPOCHS:
        return JudgePlan("epochs", models)
    samples = len(source.splits["train"])
    wanted = choose_epochs(samples, setup.options.batch_size, device.type)
    wanted = wanted if options.init is None else min(wanted, FINE_TUNING_EPOCHS)
    epochs = options.epochs or max(min(wanted, affordable), EPOCHS[0])
    repeats = 1 if options.epochs is not None else int(np.clip(affordable // epochs, 1, MAX_REPEATS))
    return JudgePlan("folds", setup=with_rows(replace(setup, epochs=epochs), setup.train_indices), repeats=repeats)


def affordable_epochs(model: nn.Module, source: Source, device: torch.device) -> int:
    """The epochs for which models of all folds can be trained in some minutes, by their floating point operations.

    A backward pass takes twice those of a forward pass. The model, on any device, is run once and stays as it is.
    """
    split = source.splits["train"]
    parameter = next(model.parameters(), torch.empty(0))
    x = next(split.batches(np.arange(min(2, len(split))), 2, parameter.device)).x
    with FlopCounterMode(display=False) as counter, frozen(model), torch.no_grad():
        model(x)
    per_epoch = 3 * counter.get_total_flops() / len(x) * len(split) * (FOLDS - 1)
    return int(FLOPS[device.type] / max(per_epoch, 1))


def judge(
    plan: JudgePlan, options: AuditOptions, source: Source, groups: Ints, folder: Path, device: torch.device
) -> Judgement:
    """Let the judge predict the training part, and the test part where it can.

    Args:
        plan: the judge.
        options: of the audit.
        source: the data set.
        groups: [N] of the training samples: those of a group, as copies are, are never in different folds.
        folder: of the audit; folds that were judged there already are read.
        device: where models run.
    """
    if plan.kind == "features":
        assert options.features is not None
        return _judge_by_features(options.features, source, groups, options.seed)
    if plan.setup is not None:
        return _judge_by_folds(plan.setup, plan.repeats, groups, folder)
    return _judge_by_epochs(plan.models, options, source, device)


def find_models(folder: Path) -> list[Path]:
    """Find up to `MAX_MODELS` checkpoints, evenly spread over the scored epochs, or else the finished model."""
    checkpoints = sorted(card.parent for card in (folder / "checkpoints").glob("*/model.json"))
    if checkpoints:
        return [
            checkpoints[position]
            for position in np.unique(np.linspace(0, len(checkpoints) - 1, MAX_MODELS).round().astype(int))
        ]
    return [folder] if (folder / "model.json").exists() else []


def divide(labels: Ints, groups: Ints, folds: int, seed: int) -> list[tuple[Ints, Ints]]:
    """(rest, fold) of each fold: stratified by label, and no group is divided."""
    from sklearn.model_selection import StratifiedGroupKFold

    folds = min(folds, len(np.unique(groups)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer samples than folds
        divided = list(StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(labels, labels, groups))
    return [(rest, fold) for rest, fold in divided if len(rest) and len(fold)]


def _prepare_folds(options: AuditOptions, source: Source) -> TrainingSetup:
    """The training on all samples, of one epoch; colour images are cropped and mirrored: judges must not memorise."""
    shared = values_of(options, ComputeOptions) | values_of(options, ModelOptions)
    shared |= {"epochs": 1, "batch_size": choose_batch(len(source.splits["train"]))}
    augment = "crop-flip" if source.shape[0] == 3 else "auto"
    training = TrainOptions(**{**shared, "augment": augment, "lr": None if options.init is None else FINE_TUNING})
    return prepare(training, epochs=1, updates=None)


def _judge_by_folds(setup: TrainingSetup, repeats: int, groups: Ints, folder: Path) -> Judgement:
    """Each part of the training samples is predicted by a model that was trained on the other parts."""
    split, test = setup.split, setup.source.splits.get("test")
    parts = {"train": split} | ({} if test is None or not len(test) else {"test": test})
    p = {name: np.zeros((len(part), len(setup.source.class_names)), np.float32) for name, part in parts.items()}
    oddness = {name: np.zeros(len(part), np.float32) for name, part in parts.items()}
    for repeat in range(repeats):
        seed = (setup.options.seed + repeat) % 2**31
        divided = divide(split.labels, groups, FOLDS, seed)
        options = replace(setup.options, seed=seed)
        for number, (rest, fold) in enumerate(divided):
            count, done = repeats * len(divided), repeat * len(divided) + number + 1
            log.info("judge %d of %d: %s, %d epochs on the other parts", done, count, setup.model_name, setup.epochs)
            training = with_rows(replace(setup, options=options), rest)
            found = _judge_fold(training, fold, parts.get("test"), folder / JUDGING / f"{repeat}-{number}")
            p["train"][fold] += found["p"] / repeats
            oddness["train"][fold] += found["oddness"] / repeats
            for name in parts.keys() - {"train"}:
                p[name] += found["p_test"] / count
                oddness[name] += found["oddness_test"] / count
    facts = {"model": setup.model_name, "folds": FOLDS, "repeats": repeats, "epochs": setup.epochs}
    known = {name: values for name, values in oddness.items() if np.isfinite(values).all()}
    return Judgement("folds", p, known, facts)


def _judge_fold(setup: TrainingSetup, fold: Ints, test: Split | None, folder: Path) -> dict[str, np.ndarray]:
    """Train on the setup's samples and predict a fold and the test part; what is finished is read."""
    file = folder / "predictions.npz"
    if file.exists():
        with np.load(file) as saved:
            return dict(saved)
    model = fresh_model(setup)
    for _ in fit(setup, model, folder=folder):
        pass
    size = pass_batch_size(None, setup.device, setup.source.shape)
    layer = _last_layer(model, setup)
    mirrored = "flip" in setup.augment
    _, known = _predict(model, setup.split, setup.train_indices, setup.device, size, layer, mirrored)
    p, features = _predict(model, setup.split, fold, setup.device, size, layer, mirrored)
    oddness = measure_oddness(known, features)
    found = {"p": p, "oddness": oddness / np.median(oddness)}
    if test is not None:
        p, features = _predict(model, test, np.arange(len(test)), setup.device, size, layer, mirrored)
        found |= {"p_test": p, "oddness_test": measure_oddness(known, features) / np.median(oddness)}

    def save(path: Path) -> None:
        with open(path, "wb") as stream:  # savez would add a suffix to the name
            np.savez(stream, **found)

    write_atomic(file, save)
    delete_written(folder / CHECKPOINT_FILE)
    return found


def _last_layer(model: nn.Module, setup: TrainingSetup) -> LastLayer | None:
    """The model's last linear layer; None where its logits do not come out of one."""
    try:
        return find_last_layer(model, setup.two_images)
    except UsageError:
        return None


def _predict(
    model: nn.Module,
    split: Split,
    rows: Ints,
    device: torch.device,
    batch_size: int,
    layer: LastLayer | None,
    mirrored: bool = False,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
    """Probabilities [n, classes] and features [n, d] of the samples `rows`.

    With `mirrored` the probabilities are the mean with those of the mirrored images.
    """
    p: list[np.ndarray] = []
    features: list[np.ndarray] = []
    with progress(f"predicting {split.name}", len(rows)) as bar, torch.no_grad():
        for batch in split.batches(np.asarray(rows, np.int64), batch_size, device):
            if layer is None:
                batch_p = _probabilities(model, batch.x)
            else:
                batch_features, batch_p = compute_features(model, batch, layer)
                features.append(batch_features.cpu().numpy())
            if mirrored:
                batch_p = (batch_p + _probabilities(model, batch.x.flip(3))) / 2
            p.append(batch_p.cpu().numpy())
            bar.advance(len(batch.index))
    return np.concatenate(p), np.concatenate(features) if features else None


def _probabilities(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with frozen(model):
        return model(x).float().softmax(1)


def _judge_by_epochs(models: Sequence[Path], options: AuditOptions, source: Source, device: torch.device) -> Judgement:
    """The mean predictions of the models of scored epochs.

    They were trained on the samples, wrong labels among them: a finished model has memorised those, earlier ones less.
    """
    parts = [split for name, split in source.splits.items() if name in ("train", "test") and len(split)]
    p: dict[str, Floats] = {}
    for folder in models:
        model = to_device(load_model(folder, options.model), device)
        for split in parts:
            size = pass_batch_size(options.batch_size, device, source.shape)
            values, _ = _predict(model, split, np.arange(len(split)), device, size, None)
            p[split.name] = p.get(split.name, np.zeros_like(values)) + values / len(models)
    return Judgement("epochs", p, facts={"models": len(models)})


@preserve_rng()
def _judge_by_features(file: Path, source: Source, groups: Ints, seed: int) -> Judgement:
    """Logistic regression on anybody's features of the training samples, each fold by the others."""
    features = np.asarray(with_features(unscored_table(source), file).features, np.float32)
    labels = source.splits["train"].labels
    classes = len(source.class_names)
    p = np.zeros((len(labels), classes), np.float32)
    oddness = np.zeros(len(labels), np.float32)

    def quality(strength: float, rows: Ints) -> float:
        """The mean log-probability of the labels of some samples, each by others of them."""
        total = 0.0
        for rest, fold in divide(labels[rows], groups[rows], FOLDS, seed):
            known, judged = rows[rest], rows[fold]
            found = regress_labels(features[known], labels[known], features[judged], classes, strength)
            total += float(np.log(found[np.arange(len(judged)), labels[judged]] + 1e-12).sum())
        return total

    for rest, fold in divide(labels, groups, FOLDS, seed):
        strength = max(STRENGTHS, key=lambda strength, rest=rest: quality(strength, rest))
        p[fold] = regress_labels(features[rest], labels[rest], features[fold], classes, strength)
        distances = measure_oddness(features[rest], features[fold])
        oddness[fold] = distances / np.median(distances)
    return Judgement("features", {"train": p}, {"train": oddness}, {"features": features.shape[1], "folds": FOLDS})


def regress_labels(known: Floats, labels: Ints, features: Floats, classes: int, strength: float) -> Floats:
    """[n, classes] probabilities of `features` [n, d], by logistic regression on `known` [m, d] and their labels."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000)).fit(known, labels)
    p = np.zeros((len(features), classes), np.float32)
    p[:, model.classes_] = model.predict_proba(features)
    return p
