"""What a scoring run measures: what was asked for, what it began with, and what the model allows."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from easycoreset.console import log
from easycoreset.errors import UsageError, require
from easycoreset.features import look_at
from easycoreset.hardness import Extent, ForwardHardness, Hardness, OptIn, Swept, load_all_hardness
from easycoreset.hardness.exact import first_std
from easycoreset.hardness.gradient import AIGN
from easycoreset.hardness.online import load_online
from easycoreset.members import spell_member, split_spec
from easycoreset.models.last_layer import find_last_layer
from easycoreset.options import ScoreOptions
from easycoreset.records import read_record
from easycoreset.training import Job, fresh_model
from easycoreset.training.tap import is_tappable

Measures = Sequence[Hardness | Swept]


def asked_for(options: ScoreOptions) -> Measures:
    """The measures that the options spell; where none are, those that the folder's run began with.

    Later versions have more, which would be another run.

    Raises:
        UsageError: unknown measure or option, or one that the mode cannot give.
    """
    online = options.mode == "online"
    measures: Measures = load_online(options.hardness) if online else load_all_hardness(options.hardness)
    file = options.out / "run.json"
    if options.hardness or options.overwrite or not file.exists():
        return measures
    try:
        begun = read_record(file).get("options", {}).get("hardness")
    except UsageError:
        return measures
    kept = [measure for measure in measures if measure.name in (begun or ())]
    return kept if kept and [measure.name for measure in kept] == begun else measures


def spell(measure: Hardness | Swept) -> str:
    """A measure with its options off their default: what a run is told apart by."""
    if isinstance(measure, ForwardHardness) or not dataclasses.is_dataclass(measure):
        return measure.name
    return spell_member("aign" if isinstance(measure, AIGN) else measure.name, measure)


def per_epoch(measures: Measures) -> list[Hardness]:
    """Those that are folds of a number an epoch."""
    return [measure for measure in measures if isinstance(measure, Hardness)]


def possible(job: Job, options: ScoreOptions, measures: Measures) -> Measures:
    """The measures that this model allows: without a last linear layer there are no features.

    Raises:
        UsageError: one that was asked for is not possible.
    """
    folded = per_epoch(measures)
    if any(getattr(m, "space", "") == "model" for m in folded) and first_std(fresh_model(job)) is None:
        raise UsageError("hardness aign:space=model needs a model whose first layer is our normalisation")
    wanted = [measure.name for measure in folded if measure.needs_features]
    if not wanted and options.save_features is None:
        require(
            options.feature_layer is None,
            "feature_layer",
            "left out where nothing needs features",
            options.feature_layer,
        )
        return measures
    named = {split_spec(spec)[0] for spec in options.hardness} & set(wanted)
    model = fresh_model(job)
    rows = np.arange(min(options.scoring_batch_size, len(job.split)))
    batch = next(job.split.batches(rows, len(rows), job.device))
    try:
        look_at(model, batch, find_last_layer(model, batch.x[:2], options.feature_layer))
    except UsageError as error:
        if named or options.save_features is not None or options.feature_layer is not None:
            raise
        log.info("%s left out: %s", ", ".join(wanted), error)
        return [measure for measure in measures if measure.name not in wanted]
    return measures


def say_prices(job: Job, measures: Measures, epochs: int) -> None:
    """Say what the measures that had to be asked for will cost."""
    if any(measure.opt_in for measure in measures):
        parameters = sum(p.numel() for p in fresh_model(job).parameters() if p.requires_grad)
        extent = Extent(
            samples=len(job.split), pixels=int(np.prod(job.source.shape)), parameters=parameters, epochs=epochs
        )
        for measure in measures:
            if isinstance(measure, OptIn):
                log.info("hardness %s costs %s", measure.name, measure.price(extent))


def refuse_untappable(job: Job) -> None:
    """Refuse online scoring of an objective whose steps never see the clean batch.

    Raises:
        UsageError: it is one.
    """
    if not is_tappable(job):
        raise UsageError(
            f"mode: online scoring sees the clean batch of a step, which {job.objective_name} does not "
            "pass through the network; use mode exact"
        )
