"""Whether everything is right on a GPU: beside the CPU, without waits, after a kill."""

import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import easycoreset as ec
from benchmarks.probe import Probe, train
from easycoreset.attacks.pgd import PGD
from easycoreset.hardness import load_hardness
from easycoreset.hardness.exact import measure_all
from easycoreset.recorder import HardnessRecorder
from easycoreset.tables.agreement import spearman
from easycoreset.training import fresh_model

SUPPORT = Path(__file__).parents[1] / "tests" / "support"


def rightness(probe: Probe) -> dict[str, Any]:
    """One saved model on both devices: AIGN folded, unfolded and in bf16, and what PGD-20 breaks."""
    saved = probe.folder / "model"
    ec.train(data=probe.data, model=probe.model, updates=20 if probe.tiny else 400, out=saved, device=probe.device.type)
    split = ec.open_source(probe.data).splits["train"]
    rows = np.arange(min(probe.images, len(split)))
    (aign,) = load_hardness(["aign"])

    def aign_on(device: torch.device, bf16: bool = False, fold: bool = True) -> np.ndarray:
        model = ec.load_model(saved).to(device)
        model = model if fold else Unfolded(model)
        return measure_all(model, lambda: split.batches(rows, 250, device), len(split), [aign], bf16=bf16)["aign"][rows]

    cpu = aign_on(torch.device("cpu"))
    found: dict[str, Any] = {}
    for name, changes in {"folded": {}, "unfolded": {"fold": False}, "bf16": {"bf16": True}}.items():
        there = aign_on(probe.device, **changes)
        easiest = {f"{share:.0%}": _overlap(cpu, there, share) for share in (0.1, 0.3)}
        error = float(np.median(np.abs(there - cpu) / np.maximum(cpu, 1e-12)))
        found[f"aign {name}"] = {"median_error": error, "spearman": spearman(cpu, there), "easiest_shared": easiest}
    broken = {}
    for name, device, precision in (
        ("cpu", "cpu", "fp32"),
        ("fp32", probe.device.type, "fp32"),
        ("bf16", probe.device.type, "bf16"),
    ):
        outcome = ec.evaluate(
            data=probe.data,
            weights=saved,
            attack="pgd",
            eps=0.1 if probe.data == "digits" else 2 / 255,
            limit=probe.images,
            device=device,
            attack_precision=precision,
            checks="quick",
            out=probe.folder / f"pgd-{name}",
        ).attacked[0]
        broken[name] = outcome.broken
    found["pgd-20 outcomes as on the CPU"] = {n: float(np.mean(b == broken["cpu"])) for n, b in broken.items()}
    found["pgd-20 broken"] = {name: float(b.mean()) for name, b in broken.items()}
    easy = found["aign folded"]
    same = found["pgd-20 outcomes as on the CPU"]
    ranked = found["aign unfolded"]["spearman"] > 0.9999 and found["aign bf16"]["spearman"] > 0.999
    found["holds"] = ranked and easy["spearman"] > 0.9999 and min(same.values()) >= 0.995 - 1 / len(rows)
    return found


class Unfolded(nn.Module):
    """A model that cannot be traced, so that its batch norm is not folded."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) if x.shape[0] else x


def _overlap(one: np.ndarray, other: np.ndarray, share: float) -> float:
    count = max(1, int(share * len(one)))
    return len(set(one.argsort()[:count]) & set(other.argsort()[:count])) / count


def waits(probe: Probe) -> dict[str, Any]:
    """Synchronisations per step, as CUDA counts them: training, online scoring, TRADES, the exact pass and PGD-20."""
    setup = probe.setup(batch_size=probe.batches[0])
    trades = probe.setup(batch_size=probe.batches[0], objective="trades")
    batch = next(setup.split.batches(np.arange(probe.batches[0]), probe.batches[0], setup.device))
    model = fresh_model(setup)
    size = len(setup.split)
    rows = np.arange(min(size, 10 * probe.batches[0]))
    works: dict[str, tuple[int, Callable[[], Any]]] = {
        "training": (probe.steps, lambda: train(setup)),
        "online scoring": (probe.steps, lambda: train(setup, HardnessRecorder(size))),
        "trades": (probe.steps, lambda: train(trades)),
        "exact pass": (
            10,
            lambda: measure_all(
                model, lambda: setup.split.batches(rows, probe.batches[0], setup.device), size, load_hardness(())
            ),
        ),
        "pgd-20": (20, lambda: PGD(eps=1e-6)(model, batch.x, batch.y, batch.index)),
    }
    found = {}
    for name, (steps, work) in works.items():
        work()  # what only the first call does is not counted
        with counted_syncs() as syncs:
            work()
        found[name] = {"a step": len(syncs) / steps, "where": sorted(set(syncs))[:8]}
    return found | {"holds": max(line["a step"] for line in found.values()) <= 0.5}


@contextmanager
def counted_syncs() -> Iterator[list[str]]:
    """The places of CUDA's synchronisation warnings inside the `with` block; none without a GPU."""
    found: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if torch.cuda.is_available():
            torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            if torch.cuda.is_available():
                torch.cuda.set_sync_debug_mode("default")
            found += [f"{Path(w.filename).name}:{w.lineno}" for w in caught if "synchroniz" in str(w.message)]


def kill_and_resume(probe: Probe) -> dict[str, Any]:
    """A training run that is killed and resumed, beside an undisturbed one: how far their weights are apart."""
    line = ["--data", probe.data, "--model", probe.model, "--device", probe.device.type, "--epochs", "3"]
    line += ["--checkpoint-minutes", "0.01", "--batch-size", "512"]
    command = [sys.executable, "-m", "easycoreset", "train", *line, "--quiet", "--out"]
    killed = probe.folder / "killed"
    process = subprocess.Popen([*command, str(killed)], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(killed.glob("checkpoint*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    was_running = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    codes = [
        subprocess.run([*command, str(out)], stdout=subprocess.DEVNULL).returncode
        for out in (killed, probe.folder / "undisturbed")
    ]
    models = [ec.load_model(out) for out in (killed, probe.folder / "undisturbed")]
    pairs = zip(*(model.state_dict().values() for model in models), strict=True)
    apart = max(float((a.double() - b.double()).abs().max()) for a, b in pairs)
    holds = codes == [0, 0] and was_running and apart < 0.05  # where a GPU's sums may differ in the last bits
    return {"killed_while_running": was_running, "exit_codes": codes, "apart": apart, "holds": holds}


def everything(probe: Probe) -> dict[str, Any]:
    """All attacks, objectives and measures on both devices, as the tests compare the pretended device."""
    sys.path.append(str(SUPPORT))
    from on_devices import compare, measure

    split = ec.open_source("digits").splits["train"]
    pixels = next(split.batches(np.arange(len(split)), len(split))).x.mul(255).byte().permute(0, 2, 3, 1).numpy()
    file = probe.folder / "few.npz"
    np.savez(file, x=pixels[:64], y=split.labels[:64], x_test=pixels[144:168], y_test=split.labels[144:168])
    small = {"data": str(file), "model": "digits-cnn", "batch_size": 8, "precision": "fp32"}
    measure(small | {"device": "cpu"}, probe.folder / "cpu", None)
    measure(small | {"device": probe.device.type}, probe.folder / "there", probe.folder / "cpu")
    found = compare(probe.folder / "cpu", probe.folder / "there")
    changed = {name: line["changed"] for name, line in found["outcomes"].items() if line["changed"]}
    return {"apart": found["apart"], "changed_outcomes": changed, "of": 24, "holds": sum(changed.values()) <= 12}
