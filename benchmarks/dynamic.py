"""What choosing in each epoch adds: training by rs2 and infobatch against as many updates on the same samples."""

import dataclasses
import functools

import numpy as np

from benchmarks.timing import ratio
from easycoreset.options import TrainOptions
from easycoreset.training import fit, fresh_model, prepare
from easycoreset.training.dynamic_requirements import make_loss_recorder
from easycoreset.training.dynamic_sampling import DynamicSampling

UPDATES = 40


def _train(path: str, method: str | None, fraction: float | None) -> None:
    options = TrainOptions(
        data=path,
        model="thin-resnet",
        updates=UPDATES,
        augment="crop-flip",
        threads=1,
        method=method,
        fraction=fraction,
        out="unused",
    )
    job = _prepared(options)
    model = fresh_model(job)
    sampling = None if method is None else DynamicSampling(job, make_loss_recorder(job, model))
    recorder = None if sampling is None else sampling.recorder
    for _ in fit(dataclasses.replace(job), model, recorder=recorder, sampling=sampling):
        pass


@functools.cache
def _prepared(options: TrainOptions):
    return prepare(options, epochs=None, updates=UPDATES)


def run() -> list[dict]:
    """Random pixels of CIFAR's size: what is in them does not change the time."""
    samples = 2560
    path = "runs/bench/dynamic.npz"
    np.savez(
        path,
        x=np.random.default_rng(0).integers(0, 256, (samples, 32, 32, 3), dtype=np.uint8),
        y=np.arange(samples) % 10,
        x_test=np.zeros((10, 32, 32, 3), np.uint8),
        y_test=np.arange(10),
    )
    static = functools.partial(_train, path, None, None)
    rows = []
    for method, fraction in (("rs2", 0.5), ("infobatch", None)):
        what = f"training by {method} / on all data, {UPDATES} updates (thin-resnet, one CPU thread)"
        rows.append(ratio(what, 1.03, functools.partial(_train, path, method, fraction), static, repeats=15, warm=1))
    return rows
