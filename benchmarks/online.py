"""What online hardness adds to a training epoch: AIGN against nothing, all cheap measures against AIGN alone."""

import dataclasses
import functools

import numpy as np

from benchmarks.timing import ratio
from easycoreset.options import TrainOptions
from easycoreset.recorder import HardnessRecorder
from easycoreset.training import fit, fresh_model, prepare


def _epoch(folder: str, model_name: str, samples: int, batch_size: int):
    options = TrainOptions(
        data=folder, model=model_name, epochs=1, batch_size=batch_size, augment="crop-flip", threads=1, out="unused"
    )
    job = prepare(options, epochs=1, updates=None)
    recorders = {
        "nothing": None,
        "aign": HardnessRecorder(samples, hardness=["aign"]),
        "all": HardnessRecorder(samples),
    }

    def run(kind: str) -> None:
        model = fresh_model(job)
        for _ in fit(dataclasses.replace(job), model, recorder=recorders[kind]):
            pass

    return run


def run() -> list[dict]:
    """Random pixels of CIFAR's size: what is in them does not change the time."""
    rng = np.random.default_rng(0)
    rows = []
    for model_name, samples, batch_size, repeats, budget in (
        ("thin-resnet", 2560, 128, 15, 1.10),
        ("resnet18", 96, 32, 7, 1.05),
    ):
        path = f"runs/bench/{model_name}.npz"
        np.savez(
            path,
            x=rng.integers(0, 256, (samples, 32, 32, 3), dtype=np.uint8),
            y=np.arange(samples) % 10,
            x_test=np.zeros((10, 32, 32, 3), np.uint8),
            y_test=np.arange(10),
        )
        epoch = _epoch(path, model_name, samples, batch_size)
        what = f"a training epoch with online AIGN / without ({model_name}, one CPU thread)"
        nothing, one, every = (functools.partial(epoch, kind) for kind in ("nothing", "aign", "all"))
        rows.append(ratio(what, budget, one, nothing, repeats=repeats, warm=1))
        what = f"an epoch with all cheap measures online / with online AIGN alone ({model_name}, one CPU thread)"
        rows.append(ratio(what, 1.10, every, one, repeats=repeats, warm=1))
    return rows
