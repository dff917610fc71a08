"""The measures of a scoring run: those requested, those of a resumed run, and those that the model allows."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from easycoreset.console import log
from easycoreset.devices import pass_batch_size
from easycoreset.errors import UsageError, require
from easycoreset.feature_extraction import compute_features
from easycoreset.hardness import ForwardHardness, Hardness, Workload, load_hardness
from easycoreset.hardness.exact import normalisation_std
from easycoreset.hardness.gradient import spec_of_column
from easycoreset.hardness.online import load_online
from easycoreset.members import spell_member, split_spec
from easycoreset.models.last_layer import find_last_layer
from easycoreset.options import ScoreOptions
from easycoreset.records import read_record
from easycoreset.training import TrainingSetup, fresh_model
from easycoreset.training.observed_model import uses_clean_batch

Measures = Sequence[Hardness]


def requested_measures(options: ScoreOptions) -> Measures:
    """The measures that the options spell; without any, those that the run in the folder started with.

    Later versions may have more default measures, which would make another run.

    Raises:
        UsageError: a measure or option is unknown, or the mode cannot give the measure.
    """
    online = options.mode == "online"
    measures: Measures = load_online(options.hardness) if online else load_hardness(options.hardness)
    file = options.out / "run.json"
    if options.hardness or options.overwrite or not file.exists():
        return measures
    try:
        started_with = read_record(file).get("options", {}).get("hardness")
    except UsageError:
        return measures
    same = [measure for measure in measures if measure.name in (started_with or ())]
    return same if same and [measure.name for measure in same] == started_with else measures


def spell_measure(measure: Hardness) -> str:
    """The spelling of a measure with its options other than the default; it identifies a run."""
    if isinstance(measure, ForwardHardness) or not dataclasses.is_dataclass(measure):
        return measure.name
    return spell_member(split_spec(spec_of_column(measure.name))[0], measure)


def trajectory_measures(measures: Measures) -> list[Hardness]:
    """The measures of one value per epoch, which the trajectory holds."""
    return [measure for measure in measures if not measure.is_wide]


def supported_measures(setup: TrainingSetup, options: ScoreOptions, measures: Measures) -> Measures:
    """The measures that this model allows: without a last linear layer there are no features.

    Raises:
        UsageError: a requested measure is not possible.
    """
    if any(getattr(m, "space", "") == "model" for m in measures) and normalisation_std(fresh_model(setup)) is None:
        raise UsageError("hardness aign:space=model needs a model whose first layer is our normalisation")
    with_features = [measure.name for measure in measures if measure.needs_features]
    if not with_features and options.save_features is None:
        require(
            options.feature_layer is None,
            "feature_layer",
            "left out where nothing needs features",
            options.feature_layer,
        )
        return measures
    requested = {split_spec(spec)[0] for spec in options.hardness} & set(with_features)
    model = fresh_model(setup)
    rows = np.arange(min(scoring_batch_size(setup, options), len(setup.split)))
    batch = next(setup.split.batches(rows, len(rows), setup.device))
    try:
        compute_features(model, batch, find_last_layer(model, batch.x[:2], options.feature_layer))
    except UsageError as error:
        if requested or options.save_features is not None or options.feature_layer is not None:
            raise
        log.info("%s left out: %s", ", ".join(with_features), error)
        return [measure for measure in measures if measure.name not in with_features]
    return measures


def scoring_batch_size(setup: TrainingSetup, options: ScoreOptions) -> int:
    """The samples per batch of a scoring pass."""
    return pass_batch_size(options.scoring_batch_size, setup.device, setup.source.shape)


def log_costs(setup: TrainingSetup, measures: Measures, epochs: int) -> None:
    """Log the costs of the expensive measures."""
    if any(measure.expensive for measure in measures):
        parameters = sum(p.numel() for p in fresh_model(setup).parameters() if p.requires_grad)
        workload = Workload(
            samples=len(setup.split), pixels=int(np.prod(setup.source.shape)), parameters=parameters, epochs=epochs
        )
        for measure in measures:
            if cost := measure.describe_cost(workload):
                log.info("hardness %s costs %s", measure.name, cost)


def require_clean_batch(setup: TrainingSetup) -> None:
    """Raise for online scoring of an objective that never runs the network on the clean batch.

    Raises:
        UsageError: it does not.
    """
    if not uses_clean_batch(setup):
        raise UsageError(
            f"mode: online scoring needs the clean batch of a step, which {setup.objective_name} does not "
            "pass through the network; use mode exact"
        )
