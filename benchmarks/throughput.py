"""Images a second of everything that runs a network, as a share of bare forward and backward passes on resident data.

On a GPU where there is one (ResNet-18, bf16 where it is the default), else on one CPU thread (thin ResNet).
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.timing import ratio
from easycoreset.attacks.pgd import PGD
from easycoreset.hardness import load_hardness
from easycoreset.hardness.exact import measure_all
from easycoreset.models.modes import frozen
from easycoreset.options import TrainOptions
from easycoreset.recorder import HardnessRecorder
from easycoreset.training import TrainingSetup, fit, fresh_model, prepare

# How often the network goes forward and backward for an image; in an attack and in scoring only to the input.
PASSES = {"training": 1, "training with online hardness": 1, "exact scoring": 1, "TRADES (10 steps)": 12, "PGD-20": 20}
LIMIT = 1.5  # the design gives no budget here: more than this would be worth a look
REPEATS = 5


def make_job(objective: str = "standard", share: float = 1.0) -> TrainingSetup:
    """A training run over a share of random pixels of CIFAR's size: what is in them does not change the time."""
    gpu = torch.cuda.is_available()
    samples, batch_size = (50_000, 512) if gpu else (2560, 128)
    file = Path("runs/bench/throughput.npz")
    rng = np.random.default_rng(0)
    np.savez(
        file,
        x=rng.integers(0, 256, (samples, 32, 32, 3), dtype=np.uint8),
        y=np.arange(samples) % 10,
        x_test=np.zeros((10, 32, 32, 3), np.uint8),
        y_test=np.arange(10),
    )
    updates = max(1, int(share * samples / batch_size))
    options = TrainOptions(
        data=str(file),
        model="resnet18" if gpu else "thin-resnet",
        updates=updates,
        augment="crop-flip",
        batch_size=batch_size,
        objective=objective,
        out=Path("unused"),
    )
    return prepare(options, epochs=None, updates=updates)


def bare_passes(job: TrainingSetup, passes: int) -> Callable[[], None]:
    """Forward and backward, in the run's own arithmetic, over a batch that lies ready as the network takes it."""
    model = fresh_model(job).train()
    batch = next(job.split.batches(np.arange(job.options.batch_size), job.options.batch_size, job.device))
    images = batch.x.contiguous(memory_format=torch.channels_last)

    def work() -> None:
        for _ in range(passes):
            with torch.autocast(job.device.type, torch.bfloat16, enabled=job.autocast):
                loss = F.cross_entropy(model(images), batch.y)
            loss.backward()
            model.zero_grad(set_to_none=True)
        wait()

    return work


def wait() -> None:
    """Until the GPU, where there is one, is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seen_by(job: TrainingSetup) -> int:
    """Images of its training run."""
    return job.updates * job.options.batch_size


def works(job: TrainingSetup, robust: TrainingSetup) -> dict[str, tuple[int, Callable[[], object]]]:
    """What is timed: how many images each piece of work sees, and the work."""
    size = len(job.split)
    model = fresh_model(job)
    rows = np.arange(size // 8, dtype=np.int64)

    def train(on: TrainingSetup, recorder: HardnessRecorder | None = None) -> None:
        for _ in fit(on, fresh_model(on), recorder=recorder):
            pass

    def attack() -> None:
        for batch in job.split.batches(rows, 250, job.device):
            with frozen(model), torch.no_grad():
                labels = model(batch.x).argmax(1)
            PGD(eps=1e-6)(model, batch.x, labels, batch.index)  # breaks hardly any: no sample is dropped

    def score() -> None:
        measure_all(model, lambda: job.split.batches(np.arange(size), 250, job.device), size, load_hardness(()))

    return {
        "training": (seen_by(job), lambda: train(job)),
        "training with online hardness": (seen_by(job), lambda: train(job, HardnessRecorder(size))),
        "exact scoring": (size, score),
        "TRADES (10 steps)": (seen_by(robust), lambda: train(robust)),
        "PGD-20": (len(rows), attack),
    }


def run() -> list[dict]:
    """A row a kind of work: its time over that of as many bare passes; images a second beside it."""
    job = make_job()
    robust = make_job("trades", 1 / 8)
    found = []
    for name, (seen, work) in works(job, robust).items():

        def ours(work: Callable[[], object] = work) -> None:
            work()
            wait()

        bare = bare_passes(job, round(seen * PASSES[name] / job.options.batch_size))
        what = f"{name} / as many bare passes ({job.model_name}, {job.device.type})"
        row = ratio(what, LIMIT, ours, bare, repeats=REPEATS, warm=1)
        found.append(
            row
            | {
                "images_per_second": seen / row["seconds"],
                "share_of_bare": 1 / row["measured"],
                "passes_per_image": PASSES[name],
            }
        )
    return found
