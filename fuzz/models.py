"""Odd models, data and weights files of others, combined at random and given to the commands.

`python -m fuzz.models --cases 300 --seed 1`: every command must end with 0, or with one line that says what is wrong; not
with an exception that is no message, a signal, a hang, or 0 and results that hold nothing. `--only NUMBER` does one case again.
"""

import argparse
import json
import os
import random
import shlex
import shutil
import sys
import tempfile
import time
import warnings
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fuzz.cases import WRONG, Outcome, case_seed, run_in_child, warm_up

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support.odd_models import ODD_MODELS

State = dict[str, Any]
LIBRARY = (
    "digits-cnn",
    "thin-resnet",
    "torchvision:squeezenet1_1",
    "torchvision:mobilenet_v3_small",
    "torchvision:shufflenet_v2_x0_5",
    "torchvision:googlenet",
    "timm:test_resnet",
    "timm:test_vit",
    "timm:test_convnext",
    "timm:test_mambaout",
    "resnet19",
    "factories:wrong_shape",
    "factories:not_finite",
    "factories:needs_an_argument",
    "factories:convolutional_head",
    "factories:nan_for_bright_images",
)
DATA: dict[str, tuple[tuple[int, int, int], int]] = {  # options of --data -> shape and classes
    "digits": ((1, 8, 8), 10),
    "plain.npz": ((1, 8, 8), 10),
    "gaps.npz": ((1, 8, 8), 10),
    "two.npz": ((1, 8, 8), 9),
    "colour.npz": ((3, 8, 8), 10),
    "photos --image-size 8": ((3, 8, 8), 2),
    "list.csv --image-size 32": ((3, 32, 32), 2),
}
WEIGHTS: dict[str, Callable[[State, Path], Any]] = {
    "plain": torch.save,
    "checkpoint": lambda state, file: torch.save({"model": state, "optimizer": {"state": {}}, "epoch": 3}, file),
    "net": lambda state, file: torch.save({"net": state}, file),
    "half": lambda state, file: torch.save(_each(state, Tensor.half), file),
    "NaN": lambda state, file: torch.save(_each(state, lambda value: value.float() * float("nan")), file),
    "other": lambda state, file: torch.save({"conv7.weight": torch.zeros(3, 3)}, file),
    "empty": lambda state, file: file.write_bytes(b""),
    "pointer": lambda state, file: file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9"),
    "page": lambda state, file: file.write_text("<!DOCTYPE html>\n<title>Sign in</title>\n"),
    "NumPy": lambda state, file: torch.save({"state_dict": state, "best": np.float64(0.5)}, file),
    "namespace": lambda state, file: torch.save({"model": state, "args": Namespace(lr=0.1)}, file),
}
THEIRS = "theirs/weights.pth"
HOW = "--data {data} --model {model} --batch-size 16 --device cpu --threads 1"
SCORE = f"score {HOW} {{objective}} --out out"
TRAIN = f"train {HOW} {{objective}} {{training}} --updates 2 --out out"
EVALUATE = (
    "evaluate --data {data} --model {model} --attack {attack} --eps 0.1 --limit 20 {margins} --device cpu --threads 1"
)
GRID = "--methods random,easycore --fractions 0.3 --seeds 1 --vary score.epochs=1 --workers 1"
CHAINS: tuple[tuple[str, ...], ...] = (
    (
        f"{SCORE} --epochs 1 {{scoring}}",
        "select --scores out/scores.parquet --fraction 0.3 --method {method} --out half.parquet",
        f"train {HOW} --coreset half.parquet --updates 2 --out train",
    ),
    (f"{SCORE} --epochs 2 {{scoring}}", "report --out out", f"{SCORE} --epochs 2 {{scoring}} --split test"),
    (f"score {HOW.replace(' --batch-size 16', '')} {{scoring}} --out out --checkpoints theirs",),
    (TRAIN, f"{EVALUATE} --weights out --out evaluation", "report --out evaluation"),
    (TRAIN, "predict --data {pictures} --weights out --model {model} --device cpu --threads 1 --out labels"),
    (TRAIN, "export out --format onnx --model {model} --out model.onnx"),
    (f"{TRAIN} --init {THEIRS}",),
    (f"{EVALUATE} --weights {THEIRS} --out out",),
    (f"{EVALUATE} --weights {THEIRS} --out out",),
    (
        f"analyze {HOW} --epochs 1 --eps 0.1 --attack fgsm --limit 20 --margins 10 --bins 2 --adversarial none --out out",
    ),
    (
        f"compare {HOW.replace(' --threads 1', '')} {GRID} --updates 2 --eps 0.1 --attack fgsm --limit 20 --out out",
        "report --out out",
    ),
)
CHOICES: dict[str, tuple[str, ...]] = {
    "objective": (
        "",
        "",
        "--objective trades:steps=2",
        "--objective pgd-at:steps=2",
        "--objective mart:steps=2",
        "--objective fgsm-rs",
    ),
    "training": ("", "", "--ema 0.9", "--precision bf16", "--augment crop-flip"),
    "scoring": (
        "",
        "--mode online",
        "--mode online --agreement 20",
        "--hardness cheap,vog",
        "--hardness aign,curvature",
        "--hardness aign,grand_full",
        "--hardness aign,boundary",
        "--save-features",
        "--save-features adversarial",
    ),
    "method": ("easycore", "easycore", "random", "kcenter", "craig", "ccs"),
    "attack": ("fgsm", "pgd:steps=2", "autoattack", "fgsm,pgd:steps=2:loss=margin", "square:queries=20"),
    "margins": ("", "", "--margins fmn", "--margins deepfool"),
}


@dataclass(frozen=True)
class Case:
    """Commands that follow each other in one folder, where data and a file of weights lie (a key of `WEIGHTS`)."""

    data: str
    model: str
    weights: str
    commands: tuple[str, ...]


def draw_case(seed: int, number: int) -> Case:
    """The case of this number: the same for the same seed."""
    rng = random.Random(case_seed(seed, number))
    odd = rng.random() < 0.7
    model = f"support.odd_models:{rng.choice(list(ODD_MODELS))}" if odd else rng.choice(LIBRARY)
    fits = ("digits", "plain.npz", "gaps.npz") if odd else list(DATA)[1:]  # mostly: an odd model takes no other shape
    data = rng.choice(fits) if rng.random() < 0.9 else rng.choice(list(DATA)[1:])
    chosen = {name: rng.choice(values) for name, values in CHOICES.items()}
    if not odd:  # AutoAttack takes them a minute
        chosen["attack"] = chosen["attack"].replace("autoattack", "fgsm")
    chosen["pictures"] = "plain.npz" if data == "digits" else data
    chain = rng.choice(CHAINS if rng.random() < 0.2 else CHAINS[:-1])  # a comparison starts other processes: it is slow
    commands = (" ".join(command.format(data=data, model=model, **chosen).split()) for command in chain)
    return Case(data, model, rng.choice(list(WEIGHTS)), tuple(commands))


def run_case(case: Case, work: Path, seconds: int, flags: tuple[str, ...] = ("--quiet",)) -> tuple[Outcome, str]:
    """Do a case's commands in `work` until one does not end well; returns how that one ended, and all that was said."""
    make_data(work)
    text = ""
    for place, command in enumerate(case.commands):
        said = work / f"said-{place}.txt"
        outcome = run_in_child(lambda step=place: _run_command(case, step, flags), work, said, seconds)
        lines = said.read_text(errors="replace").splitlines()
        text += "\n".join([f"$ easycoreset {command}", *lines, f"[{outcome.end}]\n"])
        more = [line for line in lines if line.strip() and not line.startswith(("warning: ", "easycoreset "))]
        more = [line for line in more if "resource_tracker" not in line]  # which minds how a case's process ends
        if more and outcome.end in ("done", "message"):
            outcome = Outcome("several lines", " | ".join(more)[-600:])
        if outcome.end != "done":
            return Outcome(outcome.end, f"`easycoreset {command}`: {outcome.said}"), text
    return Outcome("done"), text


def _run_command(case: Case, place: int, flags: tuple[str, ...]) -> int:
    """In a process of its own: make the weights, run one command, and look at what it wrote."""
    from easycoreset.cli import main

    if place == 0:
        make_weights(case)
    code = main([*shlex.split(case.commands[place]), *flags])
    told = "HugeLogits" in case.commands[place]  # whose gradients are 0, as `score` says
    wrong = "" if code or told else find_unusable(Path())
    if wrong:
        os.write(2, f"{wrong}\n".encode())
    return 74 if wrong else code


def make_data(folder: Path) -> None:
    """Small data of several kinds, made of scikit-learn's digits."""
    from PIL import Image
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = (bunch.images[:150] * 15).astype(np.uint8)
    labels = bunch.target[:150]
    for name, kept in (("plain", range(10)), ("gaps", (0, 2, 5, 9)), ("two", (3, 8)), ("colour", range(10))):
        x = pixels[np.isin(labels, kept)]
        y = labels[np.isin(labels, kept)]
        x = np.repeat(x[..., None], 3, axis=3) if name == "colour" else x
        train = np.arange(len(y)) % 3 > 0
        np.savez(folder / f"{name}.npz", x=x[train], y=y[train], x_test=x[~train], y_test=y[~train])
    rows = ["filepath,label,split"]
    for row in np.flatnonzero(labels < 2):
        file = f"photos/{'train' if row % 3 else 'test'}/{'ab'[labels[row]]}/{row}.png"
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[row]).save(folder / file)
        rows.append(f"{file},{'ab'[labels[row]]},{file.split('/')[1]}")
    (folder / "list.csv").write_text("\n".join(rows) + "\n")


def make_weights(case: Case) -> None:
    """Write somebody's file of weights of the case's model, as far as that can be built."""
    from easycoreset.models import build_network
    from easycoreset.models.card import ModelCard

    (shape, classes) = DATA[case.data]
    none = (0.0,)
    file = Path(THEIRS)
    card = ModelCard(model=case.model, shape=shape, mean=none, std=none, class_names=tuple(map(str, range(classes))))
    file.parent.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            WEIGHTS[case.weights](build_network(card).state_dict(), file)
        except Exception:  # an odd model may raise anything; the command shall find it
            WEIGHTS[case.weights]({"weight": torch.zeros(3)}, file)


def _each(state: State, change: Callable[[Tensor], Tensor]) -> State:
    return {name: change(value) if isinstance(value, Tensor) else value for name, value in state.items()}


def find_unusable(folder: Path) -> str:
    """What of the files that a command wrote holds nothing: AIGN of NaN or zeros alone, weights or labels with NaN."""
    import pyarrow.parquet as pq
    from safetensors.torch import load_file

    for file in sorted(folder.rglob("scores*.parquet")):
        table = pq.read_table(file)
        for name in (name for name in table.column_names if name.startswith("aign")):
            values = table[name].to_numpy()
            if np.isnan(values).all() or not values.any():
                return f"{file}: {name} is {values[0]} for all {len(values)} samples"
    for file in sorted(folder.rglob("labels.parquet")):
        if np.isnan(pq.read_table(file)["probability"].to_numpy()).any():
            return f"{file}: a probability is NaN"
    for file in sorted(folder.rglob("model.safetensors")):
        if any(value.is_floating_point() and not value.isfinite().all() for value in load_file(file).values()):
            return f"{file}: weights that are not finite"
    return ""


def run(cases: int, seed: int, seconds: int) -> dict[str, Any]:
    """Do so many cases and print those that end wrong.

    Returns:
        `counts`: how they ended; `wrong`: those that ended wrong; `messages`: each that was given, and the first case.
    """
    counts = Counter[str]()
    wrong = list[dict[str, Any]]()
    messages = dict[str, int]()
    started = time.monotonic()
    for number in range(cases):
        case = draw_case(seed, number)
        with tempfile.TemporaryDirectory(prefix="fuzz-models-") as name:
            outcome, _ = run_case(case, Path(name), seconds)
        counts[outcome.end] += 1
        if outcome.end in WRONG:
            wrong.append({"case": number, "weights": case.weights, "end": outcome.end, "said": outcome.said})
            print(f"case {number} (weights: {case.weights}): {outcome.end}: {outcome.said}", flush=True)
        elif outcome.end == "message":
            messages.setdefault(outcome.said.split("`: ", 1)[1], number)
        if number % 50 == 49:
            print(f"{number + 1} cases, {time.monotonic() - started:.0f} s: {dict(counts)}", flush=True)
    return {"cases": cases, "seed": seed, "counts": dict(counts), "wrong": wrong, "messages": messages}


def show(seed: int, number: int, seconds: int) -> bool:
    """Do one case again, with tracebacks too where it ends wrong, and keep its folder; returns whether it did."""
    case = draw_case(seed, number)
    work = Path(tempfile.mkdtemp(prefix=f"fuzz-models-{number}-"))
    print(f"seed {seed}, case {number}, weights: {case.weights}, in {work}")
    outcome, text = run_case(case, work, seconds)
    print(text)
    if outcome.end in WRONG:
        shutil.rmtree(work)
        work.mkdir()
        print(run_case(case, work, seconds, ("--quiet", "--debug"))[1])
    return outcome.end in WRONG


def main() -> None:
    """Run, print the counts, and write them with what made them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=int, default=60, help="after which a command hangs")
    parser.add_argument("--only", type=int, help="the number of a case that is done alone, and shown")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    warm_up()
    _warm_up_models()
    if given.only is not None:
        sys.exit(show(given.seed, given.only, given.seconds))
    print(f"seed {given.seed}", flush=True)
    found = run(given.cases, given.seed, given.seconds)
    print(json.dumps({key: found[key] for key in ("cases", "seed", "counts")}, indent=1))
    if given.out is not None:
        from benchmarks.__main__ import describe

        command = shlex.join(["python", "-m", "fuzz.models", *sys.argv[1:]])
        given.out.write_text(json.dumps({**describe(), "command": command, **found}, indent=1) + "\n")
    sys.exit(bool(found["wrong"]))


def _warm_up_models() -> None:
    """Import now what the cases would import each."""
    import onnx.reference  # noqa: F401
    import onnxscript  # noqa: F401
    import sklearn.datasets  # noqa: F401
    import timm  # noqa: F401

    import easycoreset.exporting.onnx
    import easycoreset.scoring
    import easycoreset.training  # noqa: F401


if __name__ == "__main__":
    main()
