"""Training: fit a model to an objective, on a coreset or on all samples."""

from typing import Any

import torch
from torch import Tensor, nn

from easycoreset.console import log
from easycoreset.errors import RunError
from easycoreset.file_lists import delete_written
from easycoreset.files import write_atomic
from easycoreset.models.saved import load_model, mark_with_card, save_model
from easycoreset.options import RecipeOptions, TrainOptions, accept_options, defaults_json, options_json
from easycoreset.options.evaluating import BEST_FOLDER
from easycoreset.process_group import broadcast, is_main_process, preserve_rng, world_size
from easycoreset.tracking import track_epochs
from easycoreset.training.checkpoint import CHECKPOINT_FILE
from easycoreset.training.distributed import open_distributed_run_folder
from easycoreset.training.dynamic_requirements import check_method, make_loss_recorder
from easycoreset.training.dynamic_sampling import DynamicSampling
from easycoreset.training.loop import Epoch, History, fit
from easycoreset.training.setup import TrainingSetup, fresh_model, log_few_updates, prepare
from easycoreset.training.validation import best_epoch, calibrated_card, validate_epoch

__all__ = ["Epoch", "History", "TrainingSetup", "fit", "fresh_model", "log_few_updates", "prepare", "train"]

MODEL_FILES = (
    "model.safetensors",
    "model.json",
    "history.jsonl",
    CHECKPOINT_FILE,
    "tracking.json",
    "profile.txt",
    "profile.json",
)
OUTPUT_NAMES = (*MODEL_FILES, BEST_FOLDER)  # the files and folders that `train` may write


@accept_options(TrainOptions, temporary_out="model")
@preserve_rng()
def train(options: TrainOptions) -> nn.Module:
    """Train a model and write it to the folder `out`; repeating the call resumes, or returns the finished model.

    With `val_fraction`, `history.jsonl` holds the accuracies on the held-out rows, and `best/` the model of the epoch
    with the highest accuracy (under PGD for an adversarial objective, else clean). The last epoch's model is returned.

    Returns:
        The trained model, in eval mode.

    Raises:
        UsageError: invalid options or data, before work starts.
        RunError: the loss or a weight is not finite.
    """
    setup = prepare(options, epochs=options.epochs, updates=options.updates)
    if setup.method is not None:
        few = setup.train_indices[:8]
        batch = next(setup.split.batches(few, len(few), setup.device))
        check_method(setup.method, setup.objective, setup.objective_name, fresh_model(setup), batch)
    identity = setup.identity(options)
    folder_options: dict[str, Any] = {
        "overwrite": options.overwrite,
        "output_names": OUTPUT_NAMES,
        "defaults": defaults_json(options),
    }
    with open_distributed_run_folder(options.out, "train", identity, **folder_options) as run:
        if run.done:
            log.info("%s is finished already", options.out)
            return load_model(options.out, options.model)
        log_few_updates(setup)
        model = fresh_model(setup)
        history: History = []
        sampling = None if setup.method is None else DynamicSampling(setup, make_loss_recorder(setup, model))
        recorder = None if sampling is None else sampling.recorder
        epochs = fit(setup, model, recorder=recorder, sampling=sampling, folder=run.path, history=history)
        for epoch in track_epochs(epochs, options, run.path):
            if validate_epoch(setup, epoch.trained, history) and is_main_process():
                card = calibrated_card(setup, epoch.trained, {"epoch": epoch.number})
                save_model(run.path / BEST_FOLDER, epoch.trained, card)
        finish_training(setup, model, options, history)
        summary = training_summary(setup, history)
        if sampling is not None:
            summary |= {"sampling": sampling.summary(history)}
        run.finish(summary=summary, options=run.record["options"])
        if is_main_process():
            delete_written(run.path / CHECKPOINT_FILE)
        broadcast(None)  # a barrier: the files of the main process are complete
    return mark_with_card(model, setup.card({})).eval()


def finish_training(setup: TrainingSetup, model: nn.Module, options: RecipeOptions, history: History) -> None:
    """Write `model.safetensors`, `model.json` and `history.jsonl`.

    Raises:
        RunError: a weight is not finite, with `on_nan` stop.
    """
    import json

    state = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    nonfinite = [name for name, value in state.items() if not bool(torch.isfinite(value).all())]
    if nonfinite and options.on_nan == "stop":
        raise RunError(
            f"the model's weights are not finite after the last update (first: {nonfinite[0]}): use a smaller --lr, or "
            "--on-nan continue"
        )
    if not is_main_process():
        return
    provenance = {"fingerprint": setup.split.fingerprint, "options": options_json(options, neutral=False)}
    save_model(options.out, model, calibrated_card(setup, model, provenance))
    lines = "".join(json.dumps(line) + "\n" for line in history)
    write_atomic(options.out / "history.jsonl", lambda path: path.write_text(lines))


def training_summary(setup: TrainingSetup, history: History) -> dict[str, object]:
    """The summary of a training run, for `run.json` and the terminal."""
    seconds = sum(line["seconds"] or 0.0 for line in history)
    return {
        "model": setup.model_name,
        "data": setup.source.name,
        "samples": len(setup.train_indices),
        "objective": setup.objective_name,
        "updates": history[-1]["updates"] if history else 0,
        "processes": world_size(),
        "epochs": len(history),
        "loss": history[-1]["loss"] if history else None,
        "seconds": round(seconds, 2),
        **({"best_epoch": best_epoch(setup, history)} if len(setup.validation_indices) and history else {}),
        **({"unreadable": setup.source.unreadable} if setup.source.unreadable else {}),
    }
