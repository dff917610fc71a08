"""CIFAR-10 and CIFAR-100 in their published layout (A. Krizhevsky 2009)."""

import hashlib
import io
import pickle
import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from easycoreset.data.images import memory_split
from easycoreset.data.source import Source
from easycoreset.errors import EasycoresetWarning, UsageError

CIFAR10 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
}
CIFAR100 = {
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "meta": "7973b15100ade9c7d40fb424638fde48",
}


def load_cifar10(folder: Path, download: bool = False) -> Source:
    """60,000 colour images of 32x32 pixels in 10 classes."""
    root = folder / "cifar-10-batches-py"
    _fetch("CIFAR10", folder, root, CIFAR10, download)
    files = {name: _read(root / name, md5) for name, md5 in CIFAR10.items()}
    parts = {"train": [files[f"data_batch_{k}"] for k in range(1, 6)], "test": [files["test_batch"]]}
    names = _names(files["batches.meta"], b"label_names", root)
    return _source(
        f"cifar10:{folder}", root, parts, b"labels", names, (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
    )


def load_cifar100(folder: Path, download: bool = False) -> Source:
    """60,000 colour images of 32x32 pixels in 100 classes."""
    root = folder / "cifar-100-python"
    _fetch("CIFAR100", folder, root, CIFAR100, download)
    files = {name: _read(root / name, md5) for name, md5 in CIFAR100.items()}
    parts = {"train": [files["train"]], "test": [files["test"]]}
    names = _names(files["meta"], b"fine_label_names", root)
    mean, std = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
    return _source(f"cifar100:{folder}", root, parts, b"fine_labels", names, mean, std)


def _source(name: str, root: Path, parts: dict[str, list[dict]], key: bytes, names: list[str],
            mean: tuple[float, ...], std: tuple[float, ...]) -> Source:  # fmt: skip
    splits = {}
    for split, files in parts.items():
        try:
            pixels = np.concatenate([np.asarray(file[b"data"], np.uint8).reshape(-1, 3, 32, 32) for file in files])
            labels = np.concatenate([np.asarray(file[key], np.int64) for file in files])
        except (KeyError, ValueError) as error:
            raise UsageError(f"data: {root}: no CIFAR batch ({error})") from None
        if len(pixels) != len(labels):
            raise UsageError(f"data: {root}: {len(pixels)} images but {len(labels)} labels in split {split!r}")
        ids = [f"{split}/{row:05d}" for row in range(len(labels))]
        splits[split] = memory_split(split, pixels.transpose(0, 2, 3, 1), labels, ids)
    return Source(name, splits, names, (3, 32, 32), mean, std, "crop-flip")


def _fetch(kind: str, folder: Path, root: Path, files: dict[str, str], download: bool) -> None:
    if download:
        import torchvision

        try:
            getattr(torchvision.datasets, kind)(folder, download=True)
        except (OSError, RuntimeError) as error:
            raise UsageError(f"download: {kind} could not be fetched into {folder}: {error}") from None
    missing = [name for name in files if not (root / name).is_file()]
    if missing:
        raise UsageError(f"data: {root}: missing {', '.join(missing)} (--download lets torchvision fetch them)")


def _names(meta: dict, key: bytes, root: Path) -> list[str]:
    try:
        return [name.decode() for name in meta[key]]
    except (KeyError, AttributeError):
        raise UsageError(f"data: {root}: no class names in its meta file") from None


class _ArraysOnly(pickle.Unpickler):
    """Admits what CIFAR's batches hold, NumPy arrays and plain containers, and nothing else."""

    admitted: ClassVar = {("_codecs", "encode")} | {
        (f"numpy{core}", name)
        for core in (".core.multiarray", "._core.multiarray", "")
        for name in ("_reconstruct", "ndarray", "dtype")
    }

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) not in self.admitted:
            raise pickle.UnpicklingError(f"{module_name}.{global_name} is not admitted")
        return super().find_class(module_name.replace("numpy.core", "numpy._core"), global_name)


def _read(path: Path, md5: str) -> dict:
    """Read one batch; the unpickler admits arrays alone, whatever the md5 says."""
    content = path.read_bytes()
    if hashlib.md5(content).hexdigest() != md5:
        warnings.warn(f"{path} is not the published file (md5 differs); it is read all the same", EasycoresetWarning,
                      stacklevel=6)  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy on the old spelling of dtype alignment in these files
            batch = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a broken pickle raises almost anything
        raise UsageError(f"data: {path}: not a readable CIFAR file: {error}") from None
    if not isinstance(batch, dict):
        raise UsageError(f"data: {path}: not a CIFAR file")
    return batch
