"""An estimate of what a plan's missing steps cost, from a few timed training steps."""

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from easycoreset.attacks import load_attack
from easycoreset.auditing.by_epochs import MAX_MODELS
from easycoreset.auditing.by_folds import affordable_epochs
from easycoreset.auditing.judgement import FOLDS
from easycoreset.auditing.judging import choose_repeats
from easycoreset.devices import synchronize
from easycoreset.evaluation.checks import LONGER_ATTACK_SAMPLES, longer_attack_steps
from easycoreset.hardness import load_hardness
from easycoreset.hardness.exact import forward_with_gradient
from easycoreset.memory import peak_memory_gib
from easycoreset.models.modes import frozen
from easycoreset.options import READING_FIELDS, Device, ScoreOptions, TrainingOptions, TrainOptions, field_names
from easycoreset.training import TrainingSetup, fit, fresh_model, prepare
from easycoreset.workflow.beyond import passes_beyond
from easycoreset.workflow.pools import count_gpus
from easycoreset.workflow.steps import External, Step, is_done, missing_steps, with_inputs

FEATURE_PASSES = {"adversarial": 12, "clean": 1, None: 0}
SECONDS_PER_PICTURE = 1e-3  # seconds of an audit's look at one picture: decoding, copies, quality
TIMED_STEPS = 6  # updates of a timed run, after an untimed run of as many


@dataclass(frozen=True)
class Timed:
    """A timed training: its setup, seconds of a step and of one image's two passes, bytes of the weights."""

    setup: TrainingSetup
    step: float
    image: float
    size: int


@dataclass(frozen=True)
class Cost:
    """What a step costs: seconds, updates, and bytes of the weights that it keeps."""

    seconds: float = 0.0
    updates: int = 0
    size: int = 0


def estimate(
    targets: Sequence[Step], out: Path, device: Device = "auto", workers: int = 2, processors: int | None = None
) -> dict[str, Any]:
    """Time a few training steps of each objective, and estimate the cost of the steps that are not done.

    The duration is an upper bound: every attack is counted as if it ran all its steps on every image, and workers that
    share a GPU or a CPU as if each had its part of it.

    Args:
        targets: the steps that are wanted.
        out: the plan's folder.
        device: where the steps run.
        workers: how many run at once.
        processors: the GPUs, or else CPUs, that the workers share; None for this machine's.

    Returns:
        The number of steps, and of missing ones by kind; their updates; those that are trained again because their
        weights were discarded; seconds with all workers busy; the memory of all workers and, with a GPU, that of each
        GPU's workers in GiB; and the disk in GiB.
    """
    workers = max(workers, 1)
    processors = processors or count_gpus(device) or os.cpu_count() or 1
    missing = missing_steps(targets, out)
    costs = measure_costs(missing, out, device)
    result = {
        "steps": len(with_inputs(targets)),
        "missing": len(missing),
        "kinds": dict(Counter(step.kind for step in missing)),
        "again": sum(is_done(step, out) for step in missing),
        "updates": sum(cost.updates for cost in costs.values()),
        "workers": workers,
        "seconds": round(sum(cost.seconds for cost in costs.values()) / min(workers, processors), 1),
        "memory_gb": round(peak_memory_gib() * workers, 2),
        "disk_gb": round(sum(cost.size for cost in costs.values()) / 2**30, 2),
    }
    if count_gpus(device):
        per_gpu = -(-workers // processors)
        result["gpu_memory_gb"] = round(torch.cuda.max_memory_allocated() / 2**30 * per_gpu, 2)
    return result


def measure_costs(steps: Sequence[Step], out: Path, device: Device, threads: int | None = 1) -> dict[str, Cost]:
    """Time a few training steps of each objective; the key of each step -> what it costs with so many CPU threads."""
    timed: dict[tuple[Any, ...], Timed] = {}
    costs: dict[str, Cost] = {}
    for step in steps:
        trained = _trained(step)
        if trained is None:  # choosing takes next to nothing; a model from elsewhere is taken for the last one
            known = list(timed.values())[-1:] if step.kind == "evaluate" else []
            costs[step.key] = Cost(sum(_seconds(step, step, facts) for facts in known))
            continue
        names = ("model", "objective", "batch_size")
        key = (trained.inputs["data"].key, *(trained.options.get(name) for name in names))
        if key not in timed:
            timed[key] = _time_steps(trained, out, device, threads)
        facts = timed[key]
        saved = {"train": 1, "score": 1 + len(scored_epochs(step))}.get(step.kind, 0)
        updates = count_updates(step, facts) if step.kind == "train" else 0
        costs[step.key] = Cost(_seconds(step, trained, facts), updates, facts.size * saved)
    return costs


def _trained(step: Step) -> Step | None:
    """The step whose model a step trains or runs; None for steps without a model."""
    if step.kind in ("train", "score") or (step.kind == "audit" and "scores" not in step.inputs):
        return step
    if step.kind == "carry":
        return None
    return next(
        (other for name, other in step.steps.items() if name in ("weights", "scores") and step.kind != "select"), None
    )


def _seconds(step: Step, trained: Step, facts: Timed) -> float:
    """The seconds of one step, approximately."""
    samples = len(facts.setup.split)
    if step.kind == "train":
        return count_updates(step, facts) * facts.step
    if step.kind == "audit":
        return _audit_seconds(step, facts)
    if step.kind == "evaluate":
        specs, norm = step.options["attack"], step.options.get("norm", "linf")
        images = len(facts.setup.source.splits["test"])
        per_image = sum(_attack_passes(load_attack(spec, norm=norm)[1]) for spec in specs) * len(step.options["eps"])
        longer = longer_attack_steps(specs) * min(LONGER_ATTACK_SAMPLES, images)
        per_image += passes_beyond(step.options) / 3  # a third of both passes is forward
        passes = min(step.options["limit"] or images, images) * per_image
        return (passes + (0 if step.options.get("checks") == "quick" else longer)) * facts.image
    scored = len(scored_epochs(trained))
    if step.kind == "score":
        batches = step.options["epochs"] * samples / step.options["batch_size"]
        return batches * facts.step + _scoring_passes(step, scored) * samples * facts.image
    passes = FEATURE_PASSES[step.options.get("save_features")] + _scoring_passes(step, scored)
    return samples * passes * facts.image


def _audit_seconds(step: Step, facts: Timed) -> float:
    """The seconds of looking at all pictures, and of judging their labels."""
    setup = facts.setup
    looking = SECONDS_PER_PICTURE * sum(len(split) for split in setup.source.splits.values())
    if step.steps:
        return looking + MAX_MODELS * len(setup.split) * facts.image / 3  # a third of both passes is forward
    affordable = affordable_epochs(fresh_model(setup), setup.source, setup.device)
    given, has_init = step.options.get("epochs"), "init" in step.inputs
    epochs, repeats = choose_repeats(len(setup.split), affordable, given, has_init, setup.device.type)
    images = repeats * (FOLDS - 1) * epochs * len(setup.split)
    return looking + images * facts.step / setup.options.batch_size


def _scoring_passes(step: Step, scored: int) -> int:
    """Forward and backward passes per sample of a scoring or measuring step."""
    specs = step.options.get("hardness", ())
    if step.kind == "measure" and not specs:
        return 0
    return scored + sum(measure.count_passes(scored) for measure in load_hardness(specs, in_training=True))


def _attack_passes(attack: Any) -> float:
    """Forward and backward passes per image of an attack, at most."""
    default = getattr(attack, "steps", 1) * getattr(attack, "restarts", 1) + 2
    return getattr(attack, "passes", default)


def count_updates(step: Step, facts: Timed) -> int:
    """The updates of a training step."""
    if step.options.get("updates") is not None:
        return step.options["updates"]
    chosen = step.steps.get("coreset")
    share = step.options.get("fraction", 1.0) if chosen is None else chosen.options["fraction"]
    return step.options["epochs"] * -(-int(len(facts.setup.split) * share + 0.5) // step.options["batch_size"])


def scored_epochs(step: Step) -> list[int]:
    """The epochs after which a scoring step measures."""
    names = set(field_names(ScoreOptions))
    given: Mapping[str, Any] = {name: value for name, value in step.options.items() if name in names}
    return ScoreOptions(**given, data="digits", out=Path("out")).scored_epochs() if step.kind == "score" else []


def _time_steps(step: Step, out: Path, device: Device, threads: int | None) -> Timed:
    """Train for a few steps, and time a second such run."""
    names = (*field_names(TrainingOptions), *READING_FIELDS, "model", "objective")
    given: dict[str, Any] = {name: step.options[name] for name in names if name in step.options} | {"warmup": None}
    externals = {name: value.value for name, value in step.inputs.items() if isinstance(value, External)}
    outside: dict[str, Any] = {name: externals[name] for name in ("data", "init") if name in externals}
    options = TrainOptions(**given, **outside, updates=TIMED_STEPS, device=device, threads=threads, out=out)
    setup = prepare(options, epochs=None, updates=TIMED_STEPS)
    model = fresh_model(setup)
    for _ in fit(setup, model):
        pass
    synchronize(setup.device)
    start = time.perf_counter()
    for _ in fit(setup, model):
        pass
    synchronize(setup.device)
    seconds = (time.perf_counter() - start) / TIMED_STEPS
    size = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    return Timed(setup, seconds, _time_pass(model, setup), size)


def _time_pass(model: torch.nn.Module, setup: TrainingSetup) -> float:
    """Seconds of a forward and backward pass of one image, in a batch of at most 250."""
    batch = next(setup.split.batches(np.arange(min(250, len(setup.split))), 250, setup.device))
    with frozen(model):
        forward_with_gradient(model, batch.x, batch.y, gradient="loss").logits.sum().item()
        start = time.perf_counter()
        for _ in range(2):
            forward_with_gradient(model, batch.x, batch.y, gradient="loss").logits.sum().item()
    return (time.perf_counter() - start) / 2 / len(batch.x)
