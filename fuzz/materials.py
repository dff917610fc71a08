"""One small file of every kind that is read, made by the commands themselves, and the command that reads it."""

import gzip
import json
import pickle
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np

TINY = ("--device", "cpu", "--threads", "1", "--batch-size", "32")
DIGITS = ("--data", "digits.npz", "--model", "digits-cnn", *TINY)


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: of the kind.
        file: that is spoilt.
        command: that reads it.
        needs: files and folders that the command reads, the spoilt one among them.
    """

    name: str
    file: str
    command: tuple[str, ...]
    needs: tuple[str, ...]


def _kind(name: str, file: str, command: str, *needs: str) -> Kind:
    own = file.split("/")[0]
    return Kind(name, file, tuple(command.split()), tuple(dict.fromkeys([own, *needs])))


TRAIN = f"train {' '.join(DIGITS)} --updates 1 --out out"
FOLDER = f"train --data photos --image-size 8 --model digits-cnn {' '.join(TINY)} --updates 1 --out out"
EVALUATE = (
    f"evaluate --data digits.npz --weights train --attack fgsm --eps 0.1 --limit 20 --out out {' '.join(TINY[:4])}"
)
COMPARE = (
    "compare --data digits.npz --model digits-cnn --methods random,easycore --fractions 0.3 --updates 2 --seeds 2 "
    "--vary score.epochs=1 --eps 0.1 --attack fgsm --strong pgd:steps=2@20 --workers 1 --device cpu"
)
RUN = f"run {' '.join(DIGITS)} --epochs 1 --eps 0.1 --attack fgsm --limit 20 --out whole"
KEYS = {  # of steps of the grid: names that are known beforehand
    "train": "0123456789abcdef",
    "select": "123456789abcdef0",
    "evaluate": "23456789abcdef01",
    "strong": "3456789abcdef012",
}
SELECT = "select --scores score/scores.parquet --fraction 0.3 --out half.parquet"
KINDS = (
    _kind("scores, select", "score/scores.parquet", SELECT),
    _kind("scores, report", "score/scores.parquet", "report --out score"),
    _kind(
        "scores, audit",
        "score/scores.parquet",
        "audit --data digits.npz --scores score --out out --device cpu",
        "digits.npz",
    ),
    _kind("scores, export", "score/scores.parquet", "export score/scores.parquet --format csv --out scores.csv"),
    _kind("scores, fiftyone", "score/scores.parquet", "export score/scores.parquet --format fiftyone --out f.json"),
    _kind("scores, cleanlab", "score/scores.parquet", "export score/scores.parquet --format cleanlab --out c.csv"),
    _kind("trajectory", "cut/trajectory/0001.parquet", f"score {' '.join(DIGITS)} --epochs 2 --out cut", "digits.npz"),
    _kind("checkpoint", "cut/checkpoint.pt", f"score {' '.join(DIGITS)} --epochs 2 --out cut", "digits.npz"),
    _kind("run.json of score, report", "score/run.json", "report --out score", "digits.npz"),
    _kind(
        "run.json of score, score", "score/run.json", f"score {' '.join(DIGITS)} --epochs 2 --out score", "digits.npz"
    ),
    _kind(
        "run.json, overwrite",
        "train/run.json",
        f"train {' '.join(DIGITS)} --updates 1 --out train --overwrite",
        "digits.npz",
    ),
    _kind(
        "list of files",
        "train/.run.json.written",
        f"train {' '.join(DIGITS)} --updates 1 --out train --overwrite",
        "digits.npz",
    ),
    _kind("coreset, train", "coreset/half.parquet", f"{TRAIN} --coreset coreset/half.parquet", "digits.npz"),
    _kind(
        "coreset, index", "coreset/half.parquet", "export coreset/half.parquet --format index --out list.txt", "score"
    ),
    _kind(
        "coreset, folder",
        "chosen/half.parquet",
        "export chosen/half.parquet --format folder --data photos --out kept",
        "photos",
    ),
    _kind(
        "coreset.json, card", "coreset/half.json", "export coreset/half.parquet --format card --out card.md", "score"
    ),
    _kind("coreset.json, select", "coreset/half.json", SELECT.replace("half", "coreset/half"), "score"),
    _kind("features.json", "score/features.json", f"{SELECT} --method kcenter"),
    _kind("features.npy", "score/features.npy", f"{SELECT} --method kcenter"),
    _kind("probabilities.npy", "score/probabilities_adv.npy", f"{SELECT} --method craig:gradients=adversarial"),
    _kind("history.jsonl", "train/history.jsonl", "report --out train"),
    _kind("run.json of train", "train/run.json", "export train --format card --out card.md"),
    _kind("model.json, evaluate", "train/model.json", EVALUATE, "digits.npz"),
    _kind("model.json, card", "train/model.json", "export train --format card --out card.md"),
    _kind(
        "model.json, predict",
        "train/model.json",
        "predict --data digits.npz --weights train --out out --device cpu",
        "digits.npz",
    ),
    _kind("weights", "train/model.safetensors", EVALUATE, "digits.npz"),
    _kind("weights, init", "train/model.safetensors", f"{TRAIN} --init train", "digits.npz"),
    _kind(
        "state dict",
        "theirs.pth",
        EVALUATE.replace("--weights train", "--weights theirs.pth --model digits-cnn"),
        "digits.npz",
    ),
    _kind("evaluation.json, report", "evaluation/evaluation.json", "report --out evaluation"),
    _kind("evaluation.json, card", "evaluation/evaluation.json", "export evaluation --format card --out card.md"),
    _kind(
        "evaluation.json, robustbench",
        "evaluation/evaluation.json",
        "export evaluation --format robustbench --out r.json",
    ),
    _kind(
        "evaluation.json, evaluate",
        "evaluation/evaluation.json",
        EVALUATE.replace("--out out", "--out evaluation"),
        "digits.npz",
        "train",
    ),
    _kind(
        "predictions.parquet",
        "evaluation/predictions.parquet",
        EVALUATE.replace("--out out", "--out evaluation"),
        "digits.npz",
        "train",
    ),
    _kind(
        "adversarial images",
        "adversarial.safetensors",
        EVALUATE.replace("--attack fgsm", "--attack file:adversarial.safetensors"),
        "digits.npz",
        "train",
    ),
    _kind("audit.parquet, report", "audit/audit.parquet", "report --out audit", "digits.npz"),
    _kind("audit.parquet, export", "audit/audit.parquet", "export audit --format cleanlab --out c.csv"),
    _kind("run.json of audit", "audit/run.json", "report --out audit", "digits.npz"),
    _kind("results.parquet", "grid/results.parquet", "report --out grid"),
    *(
        _kind(f"{file} of {kind} in a grid", f"grid/steps/{name}/{file}", "report --out grid")
        for kind, name, files in (
            ("training", f"train-{KEYS['train']}", ("step.json", "run.json")),
            ("choosing", f"select-{KEYS['select']}", ("run.json",)),
            ("an evaluation", f"evaluate-{KEYS['evaluate']}", ("step.json", "evaluation.json", "predictions.parquet")),
            ("a strong attack", f"evaluate-{KEYS['strong']}", ("evaluation.json", "predictions.parquet")),
        )
        for file in files
    ),
    _kind("plan.json of a grid, report", "grid/plan.json", "report --out grid"),
    _kind("plan.json of a grid, compare", "again/plan.json", f"{COMPARE} --out again", "digits.npz"),
    _kind("plan.json of a grid, preregister", "again/plan.json", f"{COMPARE} --preregister --out again", "digits.npz"),
    _kind("list of a grid's files", "again/.plan.json.written", f"{COMPARE} --out again", "digits.npz"),
    _kind("contrasts.json", "grid/contrasts.json", "report --out grid"),
    _kind("recipe", "recipe.yaml", "compare --recipe recipe.yaml --dry-run --out out", "digits.npz"),
    _kind("comparison.json", "whole/comparison.json", "report --out whole"),
    _kind("plan.json of run, report", "whole/plan.json", "report --out whole"),
    _kind("plan.json of run, run", "whole/plan.json", RUN, "digits.npz"),
    *(
        _kind(f"{file}, run", f"whole/{file}", RUN, "digits.npz")
        for file in ("random/step.json", "random/run.json", "evaluation/random/evaluation.json")
    ),
    _kind("analysis.json", "analysis/analysis.json", "report --out analysis"),
    _kind("plan.json of analyze", "analysis/plan.json", "report --out analysis"),
    _kind(
        "export.json",
        "kept/export.json",
        "export chosen/half.parquet --format folder --data photos --out kept",
        "photos",
        "chosen",
    ),
    _kind(".npz", "digits.npz", TRAIN),
    _kind(".npz, predict", "digits.npz", "predict --data digits.npz --weights train --out out --device cpu", "train"),
    _kind("manifest, CSV", "list.csv", FOLDER.replace("--data photos", "--data list.csv"), "photos"),
    _kind("manifest, Parquet", "list.parquet", FOLDER.replace("--data photos", "--data list.parquet"), "photos"),
    *(
        _kind(f"picture, {form}", f"photos/train/a/0.{form}", FOLDER)
        for form in ("png", "jpg", "gif", "webp", "tif", "bmp", "ppm")
    ),
    _kind(
        "CIFAR batch",
        "cifar-10-batches-py/data_batch_2",
        TRAIN.replace("digits.npz", "cifar10:.").replace("digits-cnn", "thin-resnet"),
    ),
    _kind(
        "CIFAR names",
        "cifar-10-batches-py/batches.meta",
        TRAIN.replace("digits.npz", "cifar10:.").replace("digits-cnn", "thin-resnet"),
    ),
    _kind("idx", "FashionMNIST/raw/train-images-idx3-ubyte.gz", TRAIN.replace("digits.npz", "fashion-mnist:.")),
    _kind("idx, plain", "FashionMNIST/raw/t10k-labels-idx1-ubyte", TRAIN.replace("digits.npz", "fashion-mnist:.")),
    _kind("Hugging Face", "hub.parquet", TRAIN.replace("digits.npz", "hf:hub.parquet")),
    *(
        _kind(f"list, .{form}", f"indices.{form}", f"{SELECT} --exclude indices.{form}", "score")
        for form in ("txt", "json", "npy", "npz")
    ),
    _kind("YAML", "options.yaml", "train --config options.yaml --out out", "digits.npz"),
)


RECIPE = """# A grid of somebody's
data: digits.npz
shared:
  model: digits-cnn
  methods: [random, easycore]
  score.epochs: 1
  eps: [0.1, 2/255]
  attack: [fgsm, "pgd:steps=2"]
products:
  - {fractions: [0.3, 0.5], updates: [2, 4], seeds: 0-1}
  - {fractions: 0.3, objectives: "trades:eps=0.1", epochs: 1, seeds: 1, lr: [0.1, 0.05]}
declare: [random vs full]
"""


def make(folder: Path) -> None:
    """Make one file of every kind in an empty folder."""
    import os

    os.chdir(folder)
    _make_data()
    _run("score", *DIGITS, "--epochs", "2", "--save-features", "adversarial", "--out", "score")
    for scores, place in (("score", "coreset"), ("photo-scores", "chosen")):
        if place == "chosen":
            photos = ("--data", "photos", "--image-size", "8", "--model", "digits-cnn", *TINY)
            _run("score", *photos, "--epochs", "1", "--out", scores)
        _run("select", "--scores", f"{scores}/scores.parquet", "--fraction", "0.5", "--out", f"{place}/half.parquet")
    _run("export", "chosen/half.parquet", "--format", "folder", "--data", "photos", "--out", "kept")
    with mock.patch("easycoreset.scoring.finish_training", side_effect=KeyboardInterrupt):
        _run("score", *DIGITS, "--epochs", "2", "--out", "cut", code=130)
    _run("train", *DIGITS, "--updates", "1", "--out", "train")
    evaluate = ("evaluate", "--data", "digits.npz", "--weights", "train", "--eps", "0.1", "--limit", "20", *TINY[:4])
    _run(*evaluate, "--attack", "fgsm", "--save-adversarial", "--out", "images")
    shutil.copy(next(Path("images/adversarial").iterdir()), "adversarial.safetensors")
    _run(*evaluate, "--attack", "fgsm", "--out", "evaluation")
    _run("audit", "--data", "digits.npz", "--scores", "score", "--device", "cpu", "--out", "audit")
    _run(*COMPARE.split(), "--out", "grid")
    _run(*RUN.split())
    _run(
        "analyze",
        *DIGITS,
        "--epochs",
        "1",
        "--eps",
        "0.1",
        "--attack",
        "fgsm",
        "--limit",
        "20",
        "--margins",
        "10",
        "--bins",
        "2",
        "--adversarial",
        "none",
        "--out",
        "analysis",
    )
    for extra in ("analysis/steps", "images", "photo-scores"):
        shutil.rmtree(extra)
    _save_state_dict()
    shutil.copytree("grid", "again")
    _name_the_steps()


def _run(*arguments: str, code: int = 0) -> None:
    from easycoreset.cli import main

    if main(list(arguments)) != code:
        raise RuntimeError(f"{' '.join(arguments)} should end with {code}")


def _name_the_steps() -> None:
    """The steps of one cell of the grid have names that are known beforehand."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = Path("grid/plan.json").read_text()
    cell = next(cell for cell in json.loads(text)["cells"] if cell["method"].startswith("easycore"))
    old = {kind: cell["steps"][kind] for kind in ("train", "select")}
    old |= {"strong" if entry["strong"] else "evaluate": entry["key"] for entry in cell["evaluations"]}
    for kind, key in old.items():
        folder = "evaluate" if kind == "strong" else kind
        Path(f"grid/steps/{folder}-{key}").rename(f"grid/steps/{folder}-{KEYS[kind]}")
        text = text.replace(key, KEYS[kind])
    Path("grid/plan.json").write_text(text)
    table = pq.read_table("grid/results.parquet")
    for name in ("cell", "evaluation"):
        renamed = {key: KEYS[kind] for kind, key in old.items()}
        column = pa.array([renamed.get(key, key) for key in table[name].to_pylist()])
        table = table.set_column(table.column_names.index(name), name, column)
    pq.write_table(table, "grid/results.parquet")


def _save_state_dict() -> None:
    import torch
    from safetensors.torch import load_file

    torch.save(load_file("train/model.safetensors"), "theirs.pth")


def _digits(count: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    found = load_digits()
    return (found.images[:count] * 15.9).astype(np.uint8), found.target[:count]


def _make_data() -> None:
    """Pictures in files of every form, arrays, CIFAR's and Fashion-MNIST's layout, manifests, lists and options."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    pixels, labels = _digits(120)
    np.savez("digits.npz", x=pixels[:90], y=labels[:90], x_test=pixels[90:], y_test=labels[90:])
    forms = ("png", "jpg", "gif", "webp", "tif", "bmp", "ppm")
    rows: list[tuple[str, str, str]] = []
    for part, own in (("train", "ab"), ("test", "ab")):
        for place, name in enumerate(own):
            Path(f"photos/{part}/{name}").mkdir(parents=True)
            for k, form in enumerate(forms):
                file = f"photos/{part}/{name}/0.{form}"
                Image.fromarray(pixels[place * 20 + k]).resize((16, 16)).convert("RGB").save(file)
                rows.append((file, name, part))
    Path("list.csv").write_text("filepath,label,split\n" + "".join(",".join(row) + "\n" for row in rows))
    columns = dict(zip(("filepath", "label", "split"), map(list, zip(*rows, strict=True)), strict=True))
    pq.write_table(pa.table(columns), "list.parquet")
    encoded = [{"bytes": Path(file).read_bytes(), "path": None} for file, _, _ in rows]
    pq.write_table(pa.table({"image": encoded, "label": [ord(name) - 97 for _, name, _ in rows]}), "hub.parquet")
    _make_published()
    for form, write in {
        "txt": lambda f: f.write_text("1\n2\n3\n"),
        "json": lambda f: f.write_text(json.dumps([1, 2, 3])),
        "npy": lambda f: np.save(f, np.arange(3)),
        "npz": lambda f: np.savez(f, a=np.arange(3)),
    }.items():
        write(Path(f"indices.{form}"))
    options = {"data": "digits.npz", "model": "digits-cnn", "updates": 1, "lr": 0.1, "device": "cpu", "batch_size": 32}
    Path("options.yaml").write_text("".join(f"{name}: {value}\n" for name, value in options.items()))
    Path("recipe.yaml").write_text(RECIPE)


def _make_published(sizes: Sequence[int] = (20, 10)) -> None:
    """CIFAR-10's batches and Fashion-MNIST's arrays, with few samples."""
    rng = np.random.default_rng(0)
    root = Path("cifar-10-batches-py")
    root.mkdir()
    for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"):
        batch = {b"data": rng.integers(0, 256, (10, 3072), dtype=np.uint8), b"labels": list(range(10))}
        (root / name).write_bytes(pickle.dumps(batch, protocol=2))
    (root / "batches.meta").write_bytes(pickle.dumps({b"label_names": [b"c%d" % k for k in range(10)]}, protocol=2))
    raw = Path("FashionMNIST/raw")
    raw.mkdir(parents=True)
    for prefix, size in zip(("train", "t10k"), sizes, strict=True):
        images = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4) for n in (size, 28, 28)) + rng.bytes(size * 784)
        (raw / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(
            bytes([0, 0, 8, 1]) + size.to_bytes(4) + bytes(range(10)) * (size // 10)
        )
