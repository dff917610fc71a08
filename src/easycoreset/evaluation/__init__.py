"""Evaluation: clean and adversarial accuracy with intervals, and checks that the attacks can be trusted."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import save_file
from torch import nn

from easycoreset.attacks import Attack
from easycoreset.calibration import measure_calibration
from easycoreset.console import format_eps, log
from easycoreset.data import Source, Split, data_name
from easycoreset.data_specs import split_weights_path
from easycoreset.devices import halve_until_it_fits, pass_batch_size
from easycoreset.errors import require
from easycoreset.evaluation.attack_run import attack_split, check_saved_images, load_for
from easycoreset.evaluation.certificates import plan_certificates
from easycoreset.evaluation.checks import (
    Check,
    check_above_chance,
    check_large_eps,
    check_longer_attack,
    check_model_behaviour,
    check_order,
    check_trained_on,
)
from easycoreset.evaluation.classes import summarise_classes
from easycoreset.evaluation.corrupted import plan_corruptions
from easycoreset.evaluation.inputs import (
    check_class_names,
    check_normalisation,
    open_inputs,
    open_model,
    split_to_evaluate,
)
from easycoreset.evaluation.margins import plan_margins
from easycoreset.evaluation.measurements import add_measurements
from easycoreset.evaluation.outcomes import Outcome, clean_outcome, predict_logits
from easycoreset.evaluation.result import Evaluation, read_evaluation, worst_case
from easycoreset.file_lists import FileList, delete_written
from easycoreset.files import write_atomic
from easycoreset.models.card import ModelCard
from easycoreset.models.modes import device_of, full_float32
from easycoreset.options import EvaluateOptions, accept_options, options_json
from easycoreset.parquet import read_provenance, read_table, with_provenance, write_table
from easycoreset.paths import sha256_of_file
from easycoreset.process_group import preserve_rng
from easycoreset.run_folders import RunFolder, open_run_folder
from easycoreset.tables import Ints
from easycoreset.training.model_checks import check_model, require_gradient
from easycoreset.training.setup import set_threads, to_device, use_autocast

__all__ = ["Evaluation", "Outcome", "evaluate"]

PARTIAL = ".evaluation"  # folder of unfinished work
MEASUREMENTS = ("margins", "corruptions", "certificates")
OUTPUT_NAMES = (
    "predictions.parquet",
    *(f"{name}.parquet" for name in MEASUREMENTS),
    "adversarial",
    PARTIAL,
)  # what `evaluate` may write


@accept_options(EvaluateOptions, temporary_out="evaluation")
@preserve_rng()
def evaluate(options: EvaluateOptions) -> Evaluation:
    """Attack a trained model and write `evaluation.json` and `predictions.parquet` to `out`.

    Repeating the call continues after the last finished attack and eps, or returns the finished evaluation.

    Returns:
        The outcomes without an attack, under each attack and in the worst case, and the checks.

    Raises:
        UsageError: invalid options, data or model, before work starts.
        RunError: the logits are not finite, or an attack returns an image outside the ball or [0,1].
    """
    attacks, loaded = _load_attacks(options)
    device, source, card = open_inputs(options)
    set_threads(options.threads, card.model, device)
    _check_data(options, source, card)
    for attack in loaded:
        getattr(attack, "check_images", lambda shape: None)(card.shape)
    split, candidates = split_to_evaluate(options, source, card)
    rows = _draw_rows(split, candidates, options.limit, options.seed)
    for spec in options.attack:
        check_saved_images(spec, split, rows, options)
    model, file = open_model(options, card)
    model = to_device(model, device)
    check_model(model, source, device)
    file, key = split_weights_path(file)
    climbs = any(getattr(attack, "climbs_in_bf16", False) for attack in loaded)
    precision = options.attack_precision or ("bf16" if climbs and use_autocast("auto", device) else "fp32")
    options = dataclasses.replace(options, attack_precision=precision)
    identity = options_json(options, neutral=False) | {
        "weights": f"{sha256_of_file(file)}:{key}" if key else sha256_of_file(file),
        "attack": attacks,
        "fingerprint": split.fingerprint,
        "image_size": card.shape[1],
        "data": data_name(options.data),
    }
    if digests := sorted({getattr(attack, "digest", "") for attack in loaded} - {""}):
        identity["attack_files"] = digests
    batch_size = pass_batch_size(options.batch_size, device, source.shape)
    if any(getattr(attack, "draws_by_batch", False) for attack in loaded):
        batch_size = options.samples_per_batch  # the same on every device
        identity["batch_size"] = batch_size
    measurements = [
        plan_margins(options.margins, options.norm),
        plan_corruptions(options.corruptions, split, source.shape, options.seed),
        plan_certificates(options.certify, options.seed),
    ]
    if options.margins or any(getattr(attack, "needs_gradient", False) for attack in loaded):
        require_gradient(model, source, device, card.model)
    run_folder = open_run_folder(
        options.out,
        "evaluate",
        identity,
        overwrite=options.overwrite,
        record="evaluation.json",
        output_names=OUTPUT_NAMES,
        host=options.weights if options.weights_path.is_dir() else options.weights_path.parent,
        defaults={"attack_precision": "fp32", "checkpoint": "last"},
    )
    with run_folder as run, full_float32():
        run.record["model"] = card.model
        run.record["unreadable"] = list(source.unreadable)
        checks = check_class_names(options, card.class_names, source.class_names)
        checks += check_trained_on(card.trained_on, split, rows)

        def evaluate_in_batches(size: int) -> Evaluation:
            sized = dataclasses.replace(options, batch_size=size)
            result = _evaluate(sized, source, split, rows, model, run, checks)
            batch = sized.samples_per_batch
            add_measurements(measurements, run, run.path / PARTIAL, model, split, result.clean, batch)
            delete_written(run.path / PARTIAL)
            return result

        if "batch_size" in identity:  # its attacks draw other random numbers in other batches
            return evaluate_in_batches(batch_size)
        return halve_until_it_fits(evaluate_in_batches, batch_size, "batch_size")


def _load_attacks(options: EvaluateOptions) -> tuple[list[str], list[Attack]]:
    """The spellings of the attacks, and each attack at each eps; refuses invalid options before work starts."""
    radii = tuple(options.eps or ())
    names = [load_for(options, spec, radii[0])[0] for spec in options.attack]
    require(len(set(names)) == len(names) > 0, "attack", "named once each", names)
    loaded = [load_for(options, spec, eps)[1] for spec in options.attack for eps in radii]
    uses_other = any(hasattr(attack, "from_") for attack in loaded)
    require(options.surrogate is None or uses_other, "surrogate", "left out without transfer", str(options.surrogate))
    return names, loaded


def _check_data(options: EvaluateOptions, source: Source, card: ModelCard) -> None:
    """Refuse images, classes and eps that do not fit the model."""
    require(source.shape == card.shape, "data", f"images of shape {card.shape}, as the model takes them", source.shape)
    model_classes = len(card.class_names)
    data_classes = len(source.class_names)
    rule = f"of {model_classes} classes, as the model is (classes={model_classes} also counts classes without samples)"
    require(data_classes == model_classes, "data", rule, data_classes)
    diameter = float(np.sqrt(np.prod(card.shape)))
    for eps in options.eps or ():
        require(
            options.norm == "linf" or eps <= diameter,
            "eps",
            f"in [0, {diameter:.1f}] for l2 on images of this size",
            eps,
        )


def _draw_rows(split: Split, rows: Ints, limit: int | None, seed: int) -> Ints:
    """A seeded draw of `limit` of the rows, ascending."""
    if limit is None or limit >= len(rows):
        if limit is not None and limit > len(rows):
            log.info("limit %d is above the %d samples of split %s: all are taken", limit, len(rows), split.name)
        return rows
    return np.sort(np.random.default_rng(seed).permutation(rows)[:limit])


def _evaluate(
    options: EvaluateOptions,
    source: Source,
    split: Split,
    rows: np.ndarray,
    model: nn.Module,
    run: RunFolder,
    first_checks: list[Check],
) -> Evaluation:
    partial_folder = run.path / PARTIAL
    expected_files = len(options.attack) * len(options.eps or ())
    images_saved = not options.save_adversarial or _count_image_files(run) >= expected_files
    if run.done and images_saved:
        log.info("%s is finished already", run.file)
        return read_evaluation(run.path)
    state_before = {
        name: value.clone() for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)
    }
    logits = predict_logits(model, split, rows, options.samples_per_batch)
    clean = clean_outcome(logits, split, rows)
    correct = rows[~clean.broken]
    checks = [*first_checks, check_above_chance(clean, split.labels)]
    checks += check_normalisation(options, source, split, model, clean)
    checks += check_model_behaviour(model, split, rows, correct, options.seed)
    thorough = options.checks == "all"
    checks += check_large_eps(model, split, correct, options.norm, options.seed) if thorough else []
    specs = list(options.attack)
    # where the gradient of the cross-entropy vanishes, the margin loss may still have one
    zero_gradient = next((check for check in checks if check.name == "zero_gradient" and not check.passed), None)
    if zero_gradient and not any("margin" in spec for spec in specs):
        specs.append("pgd:loss=margin")
    attacked = _attack_all(options, specs, model, split, clean, partial_folder)
    worst = worst_case(attacked)
    checks += check_order(attacked)
    checks += check_longer_attack(model, split, clean, attacked, worst, options.seed) if thorough else []
    unchanged = all(
        torch.equal(state_before[name], value) for name, value in model.state_dict().items() if name in state_before
    )
    message = "the model's parameters or buffers changed while it was attacked"
    checks.append(Check("state_unchanged", float(not unchanged), unchanged and not model.training, message))
    result = Evaluation(clean=clean, attacked=attacked, worst=worst, checks=checks)
    for warning in result.warnings:
        log.warning("warning: %s", warning)
    predictions = with_provenance(result.to_table(split), {"class_names": list(source.class_names)})
    write_table(predictions, run.path / "predictions.parquet")
    facts: dict[str, Any] = {
        "data": source.name,
        "split": split.name,
        "samples": len(rows),
        "model": run.record.get("model"),
        "attacks": describe_attacks(options, specs),
    }
    measured = {name: value for name, value in run.record.get("summary", {}).items() if name in MEASUREMENTS}
    by_class = summarise_classes(clean, worst, split.labels, source.class_names)
    held_out = split.name != "train"
    calibration = {"calibration": measure_calibration(logits.numpy(), split.labels[rows])} if held_out else {}
    run.finish(summary=facts | measured | result.summary() | by_class | calibration)
    delete_written(partial_folder)
    return result


def _attack_all(
    options: EvaluateOptions,
    specs: Sequence[str],
    model: nn.Module,
    split: Split,
    clean: Outcome,
    partial_folder: Path,
) -> list[Outcome]:
    """The outcomes of every attack at every eps."""
    attacked: list[Outcome] = []
    for spec in specs:
        for eps in options.eps or ():
            name, attack = load_for(options, spec, eps)
            attacked.append(attack_or_read(partial_folder, name, attack, eps, model, split, clean, options))
            log.info("%s %s eps %s: robust accuracy %.4f", name, options.norm, format_eps(eps), attacked[-1].accuracy)
    return attacked


def describe_attacks(options: EvaluateOptions, specs: Sequence[str]) -> dict[str, Any]:
    """Attack -> all its parameters; parameters that depend on eps have their value at the first eps."""
    described: dict[str, Any] = {}
    for spec in specs:
        name, attack = load_for(options, spec, (options.eps or (0.0,))[0])
        items = dataclasses.fields(attack) if dataclasses.is_dataclass(attack) else ()
        fields = {item.name: getattr(attack, item.name) for item in items if item.repr}
        described[name] = {key: value for key, value in fields.items() if isinstance(value, str | int | float | None)}
        described[name]["strength"] = list(getattr(attack, "strength", ()))
        if "step_size" in fields and fields["step_size"] is None:
            described[name]["step_size"] = fields["eps"] / 4
    return described


def attack_or_read(
    partial_folder: Path,
    name: str,
    attack: Attack,
    eps: float,
    model: nn.Module,
    split: Split,
    clean: Outcome,
    options: EvaluateOptions,
) -> Outcome:
    """The outcome of one attack at one eps, read from an earlier start's file if there is one."""
    # the fewest decimals, at least four, that give every eps another file name
    digits = next(n for n in range(4, 18) if len({f"{e:.{n}f}" for e in options.eps or ()}) == len(options.eps or ()))
    stem = f"{name.replace(':', '-').replace('=', '_').replace('/', '_')}-{options.norm}-{eps:.{digits}f}"
    file = partial_folder / f"{stem}-{eps!r}.parquet"
    images_file = options.out / "adversarial" / f"{stem}.safetensors"
    if file.exists() and (images_file.exists() or not options.save_adversarial):
        table = read_table(file, {"index": "integer", "pred": "integer", "broken": "bool"})
        values = [table[column].to_numpy(zero_copy_only=False) for column in ("index", "pred", "broken")]
        return Outcome(name, options.norm, eps, *values, stages=read_provenance(table, file, None))
    progress_file = file.with_suffix(".begun.parquet")
    outcome, images = attack_split(name, attack, eps, model, split, clean, options, device_of(model), progress_file)
    if images is not None:
        tensors = {"index": torch.from_numpy(outcome.index), "x": images}
        write_atomic(images_file, lambda path: save_file(tensors, path))
    table = pa.table({"index": outcome.index, "pred": outcome.pred, "broken": outcome.broken})
    write_table(with_provenance(table, outcome.stages), file)
    return outcome


def _count_image_files(run: RunFolder) -> int:
    """Count the files of adversarial images that this evaluation has written."""
    file_list = FileList(run.path, run.file.name)
    return sum(file_list.is_unchanged_own_file(file) for file in (run.path / "adversarial").glob("*.safetensors"))
