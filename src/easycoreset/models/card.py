"""The card of a saved model, `model.json`."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from easycoreset.errors import UsageError, quote
from easycoreset.files import SCHEMA_VERSION, write_json
from easycoreset.records import read_record

MAX_PIXELS = 2**28
MAX_CLASSES = 2**20


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """The contents of `model.json`: enough to build the model again, and its origin.

    Attributes:
        model: spelling of the model.
        shape: (C, H, W) of the inputs.
        mean: of the normalisation, one number a channel.
        std: of the normalisation, one number a channel.
        class_names: a name for each output.
        eps: radius of adversarial training, if any.
        provenance: data fingerprint, options, versions.
        trained_on: the training samples (split, fingerprint, number, hashes of their pixels), if known.
        temperature: what logits are divided by for calibrated probabilities, by held-out samples, if there were any.
    """

    model: str
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    eps: float | None = None
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)
    trained_on: dict[str, Any] | None = None
    temperature: float | None = None


class ImageData(Protocol):
    """What a model must know of its data: a `Source`."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images."""
        ...

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel."""
        ...

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel."""
        ...

    @property
    def class_names(self) -> Sequence[str]:
        """A name for each class."""
        ...


def card_for(model: str, data: ImageData, **more: Any) -> ModelCard:
    """The card of a model of a data set; `more` are further fields of it."""
    names = tuple(data.class_names)
    return ModelCard(model=model, shape=data.shape, mean=data.mean, std=data.std, class_names=names, **more)


def read_card(folder: Path) -> ModelCard:
    """Read `model.json`.

    Raises:
        UsageError: missing or invalid.
    """
    file = folder / "model.json"
    if not file.exists() and (
        subfolders := [name for name in ("model", "scores", "best") if (folder / name / "model.json").exists()]
    ):
        raise UsageError(
            f"{file}: no such file; a model is in {' and in '.join(str(folder / name) for name in subfolders)}"
        )
    record = read_record(file)
    record.pop("schema_version", None)
    if not 0 < math.prod(record["shape"]) <= MAX_PIXELS or min(record["shape"]) < 1:
        raise UsageError(f"{file}: shape must be (C, H, W), each >= 1; got {quote(record['shape'])}")
    if min(record["std"], default=1) <= 0 or len(record["class_names"]) > MAX_CLASSES:
        raise UsageError(f"{file}: std must be > 0, and the classes at most {MAX_CLASSES}")
    try:
        card = ModelCard(**record)
        tuples = {key: tuple(getattr(card, key)) for key in ("shape", "mean", "std", "class_names")}
    except TypeError as error:
        raise UsageError(f"{file}: not a model card: {error}") from None
    if len(tuples["shape"]) != 3 or not len(tuples["mean"]) == len(tuples["std"]) == tuples["shape"][0]:
        raise UsageError(f"{file}: shape, mean and std do not fit together")
    return dataclasses.replace(card, **tuples)


def write_card(folder: Path, card: ModelCard) -> None:
    """Write `model.json`."""
    write_json(folder / "model.json", {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(card)})
