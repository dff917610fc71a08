"""A device that is not the CPU but computes there, and refuses what a GPU refuses; run by `test_devices.py`.

Tensors of both in one operation are an error, and so is `.numpy()`. Whatever makes the host wait for the device is counted
by the line that did it.
"""

import json
import sys
import traceback
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import torch
from on_devices import OBJECTIVES, compare, measure
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

import easycoreset as ec
from easycoreset import predicting
from easycoreset.training import setup
from easycoreset.workflow import defaults, inputs

NAME = "pretend"
MIXED = {
    "aten::copy_",
    "aten::_to_copy",
    "aten::_copy_from",
    "aten::index",
    "aten::index_put",
    "aten::index_put_",
}  # a GPU's too
WAITING = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal"}
waits: Counter[str] = Counter()
_setup_privateuseone_for_python_backend(NAME)


class There(torch.Tensor):
    """A tensor of the device, with the CPU's that holds its values."""

    @staticmethod
    def __new__(cls, raw):
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            raw.shape,
            dtype=raw.dtype,
            device=torch.device(NAME, 0),
            strides=raw.stride(),
            storage_offset=raw.storage_offset(),
        )
        made.raw = raw
        return made

    @classmethod
    def __torch_dispatch__(cls, op, types, args=(), kwargs=None):
        return compute(op, *args, **(kwargs or {}))

    def tolist(self):
        note("tolist")
        return self.raw.tolist()


def compute(op, *args, **kwargs):
    """Do an operation on the CPU, and put on the device what belongs there."""
    name = op._schema.name
    tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
    theirs = [t for t in tensors if isinstance(t, There)]
    if theirs and name not in MIXED and any(t.dim() > 0 for t in tensors if not isinstance(t, There)):
        said = f"{name}: tensors on {NAME} and on cpu"
        print(said, file=sys.stderr, flush=True)  # raised in a thread of autograd's it would end the process unsaid
        raise RuntimeError(said)
    lowered = tree_map(lower, args)
    named = tree_map(lower, kwargs)
    if name in WAITING or (name in ("aten::index", "aten::index_put_") and any(map(is_mask, args[1]))):
        note(name)
    if name == "aten::_to_copy":
        there = torch.device(kwargs.get("device") or args[0].device).type == NAME
        if there != isinstance(args[0], There) and not kwargs.get("non_blocking"):
            note("a copy between devices")
        found = op(*lowered, **named)
        return There(found) if there else found
    if name == "aten::copy_" or name == "aten::_copy_from":
        into, of = args[:2] if name == "aten::copy_" else args[1::-1]
        if isinstance(into, There) != isinstance(of, There) and of.dim() > 0 and not any(args[2:]):  # non_blocking
            note("a copy between devices")
        lower(into).copy_(lower(of))
        return into
    if name == "aten::convolution_overrideable":
        op = torch.ops.aten.convolution.default
    if name == "aten::convolution_backward_overrideable":
        gradient, x, weight, *settings, mask = lowered
        found = torch.ops.aten.convolution_backward.default(gradient, x, weight, [len(weight)], *settings, mask)
        return tuple(part if part is None else There(part) for part in found)
    result = op(*lowered, **named)
    for tensor in theirs:  # a wrapper keeps its shape
        assert tensor.shape == tensor.raw.shape, f"{name} gave a tensor another shape in place: {tensor.raw.shape}"
    wrappers = {id(t.raw): t for t in theirs}  # what was changed in place stays itself

    def lift(part):
        if not isinstance(part, torch.Tensor):
            return part
        return wrappers[id(part)] if id(part) in wrappers else There(part)

    return tree_map(lift, result)


def lower(part):
    """The CPU's part in the place of the device's."""
    if isinstance(part, There):
        return part.raw
    return torch.device("cpu") if isinstance(part, torch.device) else part


def is_mask(index):
    return isinstance(index, torch.Tensor) and index.dtype == torch.bool


def note(what):
    """Count a wait, by the line of ours that waits."""
    lines = [line for line in traceback.extract_stack() if "/easycoreset/" in line.filename]
    place = f"{lines[-1].filename.split('/easycoreset/')[-1]}:{lines[-1].lineno}" if lines else "elsewhere"
    waits[f"{what} in {place}"] += 1


def make_range(*bounds, dtype=None, layout=None, device=None, pin_memory=None):
    """`arange` as a whole: PyTorch's makes an empty tensor and gives it another shape in place."""
    return There(torch.arange(*bounds, dtype=dtype))


everywhere = torch.library.Library("_", "IMPL")
everywhere.fallback(compute, "PrivateUse1")
ranges = torch.library.Library("aten", "IMPL")
for overload in ("arange", "arange.start", "arange.start_step"):
    ranges.impl(overload, make_range, "PrivateUse1")


class Draws(torch.Generator):
    """The device draws as the CPU does."""

    def __new__(cls, device="cpu"):
        return super().__new__(cls, "cpu")


def move_everything():
    """Let every command of this process work on the device."""
    for module in (setup, defaults, inputs, predicting):
        module.choose_device = lambda name: torch.device(NAME, 0)
    torch.Generator = Draws


def per_epoch(work, amounts=(1, 2)):
    """The waits that each further epoch of `work(epochs)` brings, by their lines."""
    found = []
    for amount in amounts:
        waits.clear()
        work(amount)
        found.append(Counter(waits))
    return dict(found[1] - found[0])


def count_attack_waits(folder, split):
    """The waits of one batch under attacks of 20 steps or more."""
    from easycoreset.attacks import load_attack
    from easycoreset.attacks.deepfool import DeepFool
    from easycoreset.attacks.fmn import DDN, FMN

    model = ec.load_model(folder).to(NAME)
    batch = next(split.batches(np.arange(64), 64, torch.device("cpu")))
    x, y = batch.x.to(NAME), batch.y.to(NAME)
    attacks = {
        spec: load_attack(spec, norm="linf", eps=0.05)[1] for spec in ("pgd", "pgd:loss=margin", "fgsm", "noise")
    }
    attacks |= {"l2": load_attack("pgd", norm="l2", eps=0.5)[1], "fmn": FMN(), "ddn": DDN(), "deepfool": DeepFool()}
    found = {}
    for name, attack in attacks.items():
        waits.clear()
        attack(model, x, y)
        found[name] = dict(waits)
    return found


def main(out):
    """Do what the commands do; returns what `test_devices.py` looks at."""
    x = torch.ones(3).to(NAME)
    refused = []
    for wrong in (lambda: x + torch.ones(3), x.numpy):
        try:
            wrong()
        except (RuntimeError, TypeError) as error:
            refused.append(type(error).__name__)
    facts = {"refused": len(refused), "noticed": per_epoch(lambda epochs: [float(x.sum()) for _ in range(2 * epochs)])}
    split = ec.open_source("digits").splits["train"]
    pixels = split.images.pixels.numpy()
    labels = split.labels
    for n in (72, 144):
        np.savez(out / f"{n}.npz", x=pixels[:n], y=labels[:n], x_test=pixels[144:160], y_test=labels[144:160])
    small = {"data": str(out / "144.npz"), "model": "digits-cnn", "batch_size": 8, "precision": "fp32"}
    np.savez(out / "few.npz", x=pixels[:64], y=labels[:64], x_test=pixels[144:168], y_test=labels[144:168])
    few = small | {"data": str(out / "few.npz")}
    measure(few, out / "cpu", None)
    move_everything()
    measure(few, out / "there", out / "cpu")
    facts |= compare(out / "cpu", out / "there")
    made = partial(ec.train, **small, overwrite=True)
    facts["waits"] = {
        "online": per_epoch(
            lambda n: ec.score(**small, mode="online", agreement=0, epochs=n, overwrite=True, out=out / "online")
        ),
        "averaged": per_epoch(lambda n: made(epochs=n, ema=0.9, augment="crop-flip", out=out / "averaged")),
        **{
            name: per_epoch(lambda n, name=name: made(epochs=n, objective=name, out=out / "robust"))
            for name in OBJECTIVES
        },
    }
    facts["first epoch"] = per_epoch(
        lambda n: ec.score(
            **(small | {"data": str(out / f"{n}.npz")}), mode="online", agreement=0, epochs=1, out=out / f"first-{n}"
        ),
        (72, 144),
    )
    facts["exact"] = per_epoch(
        lambda n: ec.score(
            **small, scoring_batch_size=8, keep_checkpoints=False, epochs=n, overwrite=True, out=out / "exact"
        )
    )
    scored = out / "there" / "scores"
    facts["attacks"] = count_attack_waits(scored, split)
    ec.select(scores=scored / "scores.parquet", method="craig", fraction=0.5, out=out / "weighted.parquet")
    ec.train(**few, coreset=out / "weighted.parquet", updates=3, out=out / "weighted")
    ec.train(**small, updates=3, val_fraction=0.1, out=out / "validated")
    ec.score(data=few["data"], model="digits-cnn", checkpoints=scored / "checkpoints", out=out / "checkpoints")
    ec.run(data=small["data"], epochs=1, attack=["fgsm"], eps=[0.1], out=out / "run")
    return facts


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = main(Path(sys.argv[1]))
    print(json.dumps(found))
