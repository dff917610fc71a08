"""How fast everything is on a GPU: images a second beside bare loops in the same arithmetic; workers that share it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.probe import Probe, train
from benchmarks.trades import reference_step
from easycoreset.attacks.climbing import climber
from easycoreset.attacks.pgd import PGD
from easycoreset.data import Batch
from easycoreset.devices import synchronize
from easycoreset.hardness import load_hardness
from easycoreset.hardness.exact import measure_all
from easycoreset.models.modes import Bf16Autocast, frozen, full_float32
from easycoreset.training import TrainingSetup, fresh_model

BATCHES = 8  # of a timed exact pass


def speed(probe: Probe) -> dict[str, Any]:
    """Images a second of training, TRADES, PGD-20 and the exact pass, each as a share of its bare loop's."""
    found: dict[str, Any] = {}
    for size in probe.batches:
        for name, options in compile_modes(probe).items():
            setup = probe.setup(batch_size=size, **options)
            bare = time_images(bare_training(setup), setup.device, size)
            found[f"training {size} {name}"] = beside(time_run(probe, setup), bare)
    setup = probe.setup(batch_size=probe.batches[0])
    trades = probe.setup(batch_size=probe.batches[0], objective="trades")
    bare = time_images(bare_trades(trades), trades.device, trades.options.batch_size)
    found[f"trades {probe.batches[0]} eager"] = beside(time_run(probe, trades), bare)
    model = fresh_model(setup)
    for size in probe.pass_sizes:
        batch = next(setup.split.batches(np.arange(min(size, len(setup.split))), size, setup.device))
        with frozen(model), torch.no_grad():
            labels = model(batch.x).argmax(1)
        for precision in ("fp32", "tf32", "bf16"):
            bare = time_images(bare_pass(model, batch.x, labels, precision), setup.device, len(batch.x))
            found[f"bare pass {size} {precision}"] = {"images_per_second": bare}
            if precision != "tf32":
                attack = time_images(pgd_20(model, batch, labels, precision), setup.device, 20 * len(batch.x))
                found[f"pgd-20 {size} {precision}"] = beside(attack, bare)
                exact = exact_pass(model, [batch] * BATCHES, len(setup.split), precision)
                exact = time_images(exact, setup.device, BATCHES * len(batch.x))
                found[f"exact pass {size} {precision}"] = beside(exact, bare)
    return found


def compile_modes(probe: Probe) -> dict[str, dict[str, Any]]:
    """Options of training: eager, compiled, and with CUDA graphs where there is a GPU."""
    modes: dict[str, dict[str, Any]] = {"eager": {}}
    if not probe.tiny:
        modes["compiled"] = {"compile": True}
    if probe.device.type == "cuda":
        modes["graphs"] = {"compile": True, "cuda_graphs": True}
    return modes


def beside(ours: float, bare: float) -> dict[str, float]:
    """Images a second, and as a share of the bare loop's."""
    return {"images_per_second": ours, "share_of_bare": ours / bare}


def time_run(probe: Probe, setup: TrainingSetup) -> float:
    """Images a second of a training run, from the difference of a long and a short one: without their start."""
    seconds = []
    for updates in (probe.steps, 2 * probe.steps):
        run = replace(setup, updates=updates, epochs=-(-updates // setup.steps_per_epoch))
        for _ in range(1 + (updates == probe.steps)):  # the first compiles
            synchronize(setup.device)
            start = time.perf_counter()
            train(run)
            synchronize(setup.device)
        seconds.append(time.perf_counter() - start)
    return probe.steps * setup.options.batch_size / max(seconds[1] - seconds[0], 1e-9)


def time_images(work: Callable[[], Any], device: torch.device, images: int, repeats: int = 5) -> float:
    """Images a second of a piece of work: the median of some repeats after two untimed ones."""
    seconds = []
    for repeat in range(2 + repeats):
        synchronize(device)
        start = time.perf_counter()
        work()
        synchronize(device)
        if repeat >= 2:
            seconds.append(time.perf_counter() - start)
    return images / float(np.median(seconds))


def bare_training(setup: TrainingSetup) -> Callable[[], None]:
    """Forward, backward and update on one batch that lies ready, in the run's own arithmetic."""
    model: nn.Module = fresh_model(setup).train()
    batch = next(setup.split.batches(np.arange(setup.options.batch_size), setup.options.batch_size, setup.device))
    x = batch.x.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)

    def work() -> None:
        with torch.autocast(setup.device.type, torch.bfloat16, enabled=setup.autocast):
            loss = F.cross_entropy(model(x), batch.y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return work


def bare_trades(setup: TrainingSetup) -> Callable[[], None]:
    """The reference algorithm's step on one batch that lies ready, in the run's own arithmetic."""
    model = fresh_model(setup).train()
    batch = next(setup.split.batches(np.arange(setup.options.batch_size), setup.options.batch_size, setup.device))
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)

    def work() -> None:
        with torch.autocast(setup.device.type, torch.bfloat16, enabled=setup.autocast):
            loss = reference_step(model, batch, torch.Generator(setup.device).manual_seed(0))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return work


def bare_pass(model: nn.Module, x: Tensor, y: Tensor, precision: str) -> Callable[[], None]:
    """Forward and back to the input on one batch that lies ready."""
    network = Bf16Autocast(model) if precision == "bf16" else model

    def work() -> None:
        tf32 = precision == "tf32" and x.is_cuda and hasattr(torch.backends.cudnn, "conv")  # since PyTorch 2.9
        with frozen(model), full_float32():
            if tf32:
                torch.backends.cuda.matmul.fp32_precision = "tf32"  # restored by full_float32
                torch.backends.cudnn.conv.fp32_precision = "tf32"
            inputs = x.detach().requires_grad_()
            torch.autograd.grad(F.cross_entropy(network(inputs), y, reduction="sum"), inputs)

    return work


def pgd_20(model: nn.Module, batch: Batch, labels: Tensor, precision: str) -> Callable[[], None]:
    """PGD-20 that breaks hardly any image, so that none is dropped."""

    def work() -> None:
        with full_float32(), climber(model, batch.x[:2]) if precision == "bf16" else nullcontext(model) as climbed:
            PGD(eps=1e-6)(climbed, batch.x, labels, batch.index)

    return work


def exact_pass(model: nn.Module, batches: list[Batch], size: int, precision: str) -> Callable[[], Any]:
    """All measures of an exact pass over some batches."""
    return lambda: measure_all(model, lambda: batches, size, load_hardness(()), bf16=precision == "bf16")


def grids(probe: Probe) -> dict[str, Any]:
    """The same small grid by 1, 2 and 3 workers that share the GPU: seconds."""
    found = {}
    for workers in probe.workers:
        line = ["--data", probe.data, "--model", probe.model, "--methods", "random,easycore", "--fractions", "0.5"]
        line += ["--updates", "10" if probe.tiny else "400", "--seeds", "2", "--score.epochs", "1", "--quiet"]
        line += ["--attack", "pgd:steps=5", "--limit", str(probe.images), "--workers", str(workers)]
        line += ["--controls", "none"]
        out = probe.folder / f"grid-{workers}"
        start = time.monotonic()
        command = [sys.executable, "-m", "easycoreset", "compare", *line, "--out", str(out)]
        code = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL).returncode
        found[f"{workers} workers"] = {"seconds": round(time.monotonic() - start, 1), "exit_code": code}
    return found | {"holds": all(line["exit_code"] == 0 for line in found.values())}
