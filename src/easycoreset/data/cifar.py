"""CIFAR-10 and CIFAR-100 in their published layout (A. Krizhevsky 2009)."""

import hashlib
import io
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from easycoreset.data.images import memory_split
from easycoreset.data.source import Reading, Source
from easycoreset.errors import EasycoresetWarning, UsageError, quote, shorten

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


def load_cifar10(location: str, reading: Reading) -> Source:
    """60,000 colour images of 32x32 pixels in 10 classes."""
    folder = Path(location)
    root = folder / "cifar-10-batches-py"
    _fetch("CIFAR10", folder, root, CIFAR10, reading.download)
    files = {name: _read(root / name, md5) for name, md5 in CIFAR10.items()}
    parts = {"train": [files[f"data_batch_{k}"] for k in range(1, 6)], "test": [files["test_batch"]]}
    names = _names(files["batches.meta"], b"label_names", root)
    return _source(
        f"cifar10:{folder}", root, parts, b"labels", names, (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
    )


def load_cifar100(location: str, reading: Reading) -> Source:
    """60,000 colour images of 32x32 pixels in 100 classes."""
    folder = Path(location)
    root = folder / "cifar-100-python"
    _fetch("CIFAR100", folder, root, CIFAR100, reading.download)
    files = {name: _read(root / name, md5) for name, md5 in CIFAR100.items()}
    parts = {"train": [files["train"]], "test": [files["test"]]}
    names = _names(files["meta"], b"fine_label_names", root)
    mean = (0.5071, 0.4865, 0.4409)
    std = (0.2673, 0.2564, 0.2762)
    return _source(f"cifar100:{folder}", root, parts, b"fine_labels", names, mean, std)


def _source(
    name: str,
    root: Path,
    parts: dict[str, list[dict]],
    key: bytes,
    names: list[str],
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Source:
    splits = {}
    for split, files in parts.items():
        try:
            pixels = np.concatenate([_pixels(file) for file in files])
            labels = np.concatenate([np.array(file[key], np.int64).reshape(-1) for file in files])
        except (KeyError, ValueError, TypeError, OverflowError) as error:
            raise UsageError(f"data: {root}: not a CIFAR batch ({shorten(str(error))})") from None
        if len(pixels) != len(labels):
            raise UsageError(f"data: {root}: {len(pixels)} images but {len(labels)} labels in split {quote(split)}")
        ids = [f"{split}/{row:05d}" for row in range(len(labels))]
        splits[split] = memory_split(split, pixels.transpose(0, 2, 3, 1), labels, ids)
    return Source(name, splits, names, (3, 32, 32), mean, std, "crop-flip")


def _pixels(file: dict) -> np.ndarray:
    """The images of a batch, [n, 3, 32, 32] uint8."""
    pixels = file[b"data"]
    if not isinstance(pixels, np.ndarray):
        raise ValueError("its data are not an array")
    return pixels.reshape(-1, 3, 32, 32)


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
    except (KeyError, AttributeError, TypeError, UnicodeDecodeError):
        raise UsageError(f"data: {root}: no class names in its meta file") from None


class _Placeholder:
    """Immutable stand-in for a name in a pickle; callable only if `call` is set."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any] | None = None) -> None:
        self.call = call

    def __call__(self, *arguments: Any) -> Any:
        if self.call is None:
            raise pickle.UnpicklingError("NumPy's classes must not be called")
        return self.call(*arguments)


class _ByteType:
    """The dtype of an array: uint8, the only one that these files contain."""

    __slots__ = ()

    def __init__(self, kind: object, *more: object) -> None:
        if kind not in ("u1", "uint8", b"u1"):
            raise pickle.UnpicklingError(f"arrays must hold unsigned bytes; got {quote(kind)}")

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or any(isinstance(part, tuple | dict | list) for part in state[2:5]):
            raise pickle.UnpicklingError("an array's numbers must be single unsigned bytes")


class _Array:
    """An array rebuilt from the stored bytes and shape; NumPy itself reads nothing else of the pickle."""

    __slots__ = ("value",)

    def __init__(self, kind: object, *more: object) -> None:
        if not isinstance(kind, _Placeholder):
            raise pickle.UnpicklingError("only NumPy's own arrays are admitted")
        self.value = np.zeros(0, np.uint8)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, column_major, raw = state
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        if not isinstance(dtype, _ByteType) or type(raw) is not bytes or not all(type(n) is int for n in shape):
            raise pickle.UnpicklingError("an array must be unsigned bytes with a shape")
        self.value = np.frombuffer(raw, np.uint8).reshape(shape, order="F" if column_major else "C")


def _encode(text: Any, encoding: Any) -> bytes:
    if type(text) is not str or encoding != "latin1":
        raise pickle.UnpicklingError("only latin1 is admitted")
    return text.encode("latin1")


class _ArraysOnly(
    pickle._Unpickler
):  # the Python version, whose memory grows with the file and not with a number in it
    """Unpickler that admits only what CIFAR's batches contain: arrays of bytes and plain containers."""

    admitted: ClassVar = {"_reconstruct": _Array, "dtype": _ByteType, "ndarray": None}
    modules: ClassVar = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return _Placeholder(_encode)
        if module not in self.modules or name not in self.admitted:
            raise pickle.UnpicklingError(f"{quote(f'{module}.{name}')} is not admitted")
        return _Placeholder(self.admitted[name])


def _read(path: Path, md5: str) -> dict:
    """Read one batch; the unpickler admits only arrays, whether the md5 matches or not."""
    content = path.read_bytes()
    if hashlib.md5(content).hexdigest() != md5:
        warnings.warn(
            f"{path} is not the published file (md5 differs); it is read anyway", EasycoresetWarning, stacklevel=6
        )
    try:
        batch = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a damaged pickle raises almost any exception
        raise UsageError(f"data: {path}: not a readable CIFAR file: {shorten(str(error))}") from None
    if not isinstance(batch, dict):
        raise UsageError(f"data: {path}: not a CIFAR file")
    return {key: _plain(value) for key, value in batch.items() if type(key) is bytes}


def _plain(value: Any) -> Any:
    """An array, or a list of integers or of names; None for anything else, which is ignored."""
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, list) and {type(item) for item in value} in ({int}, {bytes}):
        return value
    return None
