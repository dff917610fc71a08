"""Choose the judge of the labels, and let it predict them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from easycoreset.auditing.by_epochs import judge_by_epochs
from easycoreset.auditing.by_features import judge_by_features
from easycoreset.auditing.by_folds import affordable_epochs, judge_by_folds, prepare_folds
from easycoreset.auditing.judgement import Judgement
from easycoreset.data import Source
from easycoreset.errors import require
from easycoreset.options import AuditOptions
from easycoreset.training import fresh_model
from easycoreset.training.budget import EPOCHS, choose_batch, choose_epochs
from easycoreset.training.setup import TrainingSetup, with_rows

Ints = npt.NDArray[np.int64]

CHEAP_EPOCHS = 8  # folds count as cheap if all their models can train for so many epochs within a few minutes
JUDGE_EPOCHS = 16  # at most, because several short trainings are better calibrated than one long one
FINE_TUNING_EPOCHS = 12
MIN_UPDATES = 320  # a training needs so many updates; with few samples it therefore has more epochs
MAX_REPEATS = 4  # repeats of all folds; their predictions are averaged


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

    @property
    def model_name(self) -> str:
        """The model that is trained; empty where none is."""
        return "" if self.setup is None else self.setup.model_name

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
    """Choose the judge: features if they are given, else the one asked for, else folds unless they are too expensive.

    If folds are too expensive, the models of scored epochs judge, if there are any.

    Raises:
        UsageError: `epochs` without models of scored epochs, or initial weights that do not fit.
    """
    if options.features is not None:
        return JudgePlan("features")
    if options.judge == "epochs":
        require(bool(models), "judge", "folds without the models of scored epochs", options.judge)
        return JudgePlan("epochs", models)
    setup = prepare_folds(options, source)
    affordable = affordable_epochs(fresh_model(setup), source, device)
    is_free = options.judge is None and options.init is None and options.epochs is None
    if is_free and models and affordable < CHEAP_EPOCHS:
        return JudgePlan("epochs", models)
    samples, has_init = len(source.splits["train"]), options.init is not None
    epochs, repeats = choose_repeats(samples, affordable, options.epochs, has_init, device.type)
    return JudgePlan("folds", setup=with_rows(replace(setup, epochs=epochs), setup.train_indices), repeats=repeats)


def choose_repeats(
    samples: int, affordable: int, epochs: int | None, has_init: bool, device_type: str
) -> tuple[int, int]:
    """Choose the number of epochs of each fold's model, and how often all folds are repeated.

    Args:
        samples: the number of training samples.
        affordable: the number of epochs for which the models of all folds can be trained in the time.
        epochs: the number of epochs if it is given; the folds are then trained once.
        has_init: whether the models begin with initial weights.
        device_type: cpu, cuda or mps.
    """
    if epochs is not None:
        return epochs, 1
    batch_size = choose_batch(samples)
    enough = -(-MIN_UPDATES * batch_size // samples)  # matters only for few samples
    most = max(FINE_TUNING_EPOCHS if has_init else JUDGE_EPOCHS, enough)
    wanted = min(choose_epochs(samples, batch_size, device_type), most)
    epochs = max(min(wanted, affordable), EPOCHS[0])
    return epochs, int(np.clip(affordable // epochs, 1, MAX_REPEATS))


def judge(
    plan: JudgePlan, options: AuditOptions, source: Source, groups: Ints, folder: Path, device: torch.device
) -> Judgement:
    """Let the judge predict the training part, and the test part where it can.

    Args:
        plan: the judge.
        options: of the audit.
        source: the data set.
        groups: [N] group of each training sample; samples of one group, such as copies, are always in the same fold.
        folder: the folder of the audit; the predictions of folds that are finished there are read.
        device: where models run.
    """
    if plan.kind == "features":
        assert options.features is not None
        return judge_by_features(options.features, source, groups, options.seed)
    if plan.setup is not None:
        return judge_by_folds(plan.setup, plan.repeats, groups, folder)
    return judge_by_epochs(plan.models, options, source, device)
