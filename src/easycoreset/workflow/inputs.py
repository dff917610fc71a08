"""The inputs of a plan: data sets, models and methods, opened once and checked before anything runs."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from easycoreset.console import log
from easycoreset.data import Source, data_name, has_image_files, make_path_absolute
from easycoreset.data.unscored import unscored_table
from easycoreset.errors import UsageError, quote
from easycoreset.hardness import load_hardness
from easycoreset.models import build_model, choose_model
from easycoreset.models.card import card_for
from easycoreset.objectives import load_objective
from easycoreset.options import READING_FIELDS, Device
from easycoreset.paths import sha256_of_file
from easycoreset.scoring.needs import MethodInputs, check_needs
from easycoreset.selection import load_selector, required_inputs
from easycoreset.selection.published import read_published
from easycoreset.tables import Scores, check_same_data
from easycoreset.tables.foreign_features import with_features
from easycoreset.tables.scores import ARRAYS, find_scores
from easycoreset.training.dynamic_requirements import check_method
from easycoreset.training.initial_weights import PRETRAINED, model_name_in, read_initial_weights
from easycoreset.training.setup import choose_device, open_for_device, use_autocast
from easycoreset.user_modules import code_digest
from easycoreset.workflow.steps import External, Step, forget_code


@dataclass(frozen=True)
class Data:
    """A data set of a plan.

    Attributes:
        source: the opened data set.
        external: its path and the key of its content.
        reading: the options with which it is read.
    """

    source: Source
    external: External
    reading: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of the data set, without its path."""
        return data_name(self.external.value)

    @cached_property
    def class_counts(self) -> list[int]:
        """The number of training samples of each class."""
        return np.bincount(self.source.splits["train"].labels, minlength=len(self.source.class_names)).tolist()

    @cached_property
    def images(self) -> Tensor:
        """Two training images, [2,C,H,W]."""
        return next(self.source.splits["train"].batches(np.arange(2), 2)).x


@dataclass
class Inputs:
    """What the cells of a plan share: each data set, model and method is opened and checked once.

    Attributes:
        device: device of the models, as `--device` names it.
        download: whether missing data sets may be downloaded.
        num_workers: processes that decode images.
    """

    device: Device = "auto"
    download: bool = False
    num_workers: int = 2
    _data: dict[Any, Data] = field(default_factory=dict[Any, Data])
    _models: dict[Any, tuple[str, External | None, nn.Module]] = field(default_factory=dict[Any, Any])
    _needs: dict[Any, MethodInputs | None] = field(default_factory=dict[Any, Any])
    _digests: dict[Path, str] = field(default_factory=dict[Path, str])  # of arrays beside given scores
    _given: dict[Any, tuple[External, Scores]] = field(default_factory=dict[Any, Any])
    _dynamic: set[Any] = field(default_factory=set[Any])
    _published: dict[Any, tuple[External, float]] = field(default_factory=dict[Any, Any])

    def __post_init__(self) -> None:
        forget_code()

    @cached_property
    def precision(self) -> str:
        """The precision that `auto` means on this device."""
        return "bf16" if use_autocast("auto", choose_device(self.device)) else "fp32"

    def open(self, data: str, reading: dict[str, Any]) -> Data:
        """Open a data set.

        Raises:
            UsageError: it cannot be opened.
        """
        if reading.get("decisions") is not None:
            reading = reading | {"decisions": Path(reading["decisions"]).absolute()}
        key = (data, *reading.values())
        if key not in self._data:
            opening: dict[str, Any] = {"num_workers": self.num_workers, "download": self.download}
            source = open_for_device(data, choose_device(self.device), reading, **opening)
            resolved = reading | ({"image_size": source.shape[1]} if has_image_files(data) else {})
            self._data[key] = Data(source, External(make_path_absolute(data), _data_key(data, source)), resolved)
        return self._data[key]

    def model(self, name: str | None, init: str | None, data: Data) -> tuple[str, External | None, nn.Module]:
        """The name of the model, its initial weights, and the model itself, built once.

        Raises:
            UsageError: the model does not fit the images, or the weights do not fit the model.
        """
        key = (name, init, data.external.key, *data.reading.values())
        if key not in self._models:
            chosen = name or model_name_in(init)
            if chosen is None:
                chosen = choose_model(data.source.shape, choose_device(self.device))
                log.info("model %s is used (--model)", chosen)
            card = card_for(chosen, data.source)
            weights = None if init is None else External(init, init)
            if init is not None and init != PRETRAINED:
                weights = External(str(Path(init).absolute()), read_initial_weights(init, card).digest)
            self._models[key] = (chosen, weights, build_model(card))
        return self._models[key]

    def needs(
        self,
        method: str,
        model: nn.Module,
        data: Data,
        feature_layer: str | None,
        hardness: tuple[str, ...],
        has_features: bool = False,
    ) -> MethodInputs | None:
        """What a method reads of a scoring run that measures `hardness`; None for a user's method that does not say.

        With `has_features`, features themselves come from elsewhere.

        Raises:
            UsageError: a scoring run of this model does not provide it.
        """
        key = (method, id(model), data.external.key, feature_layer, hardness, has_features)
        if key not in self._needs:
            name, selector = load_selector(method)
            measured = [measure.name for measure in load_hardness(hardness)] if hardness else []
            needs = check_needs(name, selector, model, data.images, feature_layer, measured, has_features)
            self._needs[key] = None if required_inputs(selector) is None else needs
        return self._needs[key]

    def published(self, method: str, data: Data) -> tuple[External, float]:
        """The file of `file:PATH`, and the fraction that it keeps.

        Raises:
            UsageError: the file is missing, or not of this data.
        """
        key = (method, data.external.key)
        if key not in self._published:
            path = Path(method.removeprefix("file:")).resolve()
            table = unscored_table(data.source)
            fraction = len(read_published(path, table)) / len(table)
            self._published[key] = External(f"file:{path}", sha256_of_file(path)), fraction
        return self._published[key]

    def given_features(self, path: Path, data: Data) -> External:
        """The features that are given.

        Raises:
            UsageError: the file is missing, or does not fit the data.
        """
        key = (path, data.external.key)
        if key not in self._given:
            table = with_features(unscored_table(data.source), path)
            self._given[key] = (External(str(path.resolve()), sha256_of_file(path)), table)
        return self._given[key][0]

    def check_dynamic(self, method: str, objective: str, model: nn.Module, data: Data) -> None:
        """Check that training by an objective gives a dynamic method what it asks for.

        Raises:
            UsageError: the model, the objective or a training step does not give it.
        """
        key = (method, objective, id(model), data.external.key)
        if key not in self._dynamic:
            split = data.source.splits["train"]
            few = next(split.batches(np.arange(min(8, len(split))), 8))
            check_method(method, load_objective(objective)[1], objective, model, few)
            self._dynamic.add(key)

    def given_scores(self, path: str, seed: int, method: str, data: Data, has_features: bool) -> External:
        """The scores that are given for a seed; they must have all that the method reads.

        Raises:
            UsageError: the file is missing, not of this data, or lacks what the method reads.
        """
        file = find_scores(Path(path.replace("{seed}", str(seed))))
        key = (file, data.external.key)
        if key not in self._given:
            scores = Scores.read(file)
            split = data.source.splits["train"]
            check_same_data(
                scores.provenance,
                split.fingerprint,
                "train",
                f"scores {file}",
                (scores.sample_ids, scores.labels),
                (split.sample_ids, split.labels),
            )
            self._given[key] = (External(str(file.resolve()), sha256_of_file(file)), scores)
        external, scores = self._given[key]
        name, selector = load_selector(method)
        needs = required_inputs(selector)
        arrays = [file.with_name(f"{part}.npy") for part in ARRAYS if needs is None or part in needs]
        for array in (array for array in arrays if array.exists() and array not in self._digests):
            self._digests[array] = sha256_of_file(array)
        external = external._replace(key=" ".join([external.key, *(self._digests.get(array, "") for array in arrays)]))
        for column in needs or ():
            has_array = column in ARRAYS and (
                getattr(scores, column) is not None or (column == "features" and has_features)
            )
            is_online = name.startswith("easycore") and f"{column}_online" in scores.columns
            if not (has_array or is_online or column in scores.columns):
                raise UsageError(f"method {quote(name)} needs {quote(column)}, which the given scores {file} lack")
        return external


def describe_other_data(step: Step) -> str:
    """What is wrong with the data on this machine, if they are not those that a step was planned with; else empty."""
    data = step.inputs.get("data")
    if not isinstance(data, External):
        return ""
    reading = {name: value for name, value in step.options.items() if name in READING_FIELDS}
    try:
        found = Inputs().open(data.value, reading).external
    except UsageError as error:
        return str(error)
    return (
        "" if found.key == data.key else f"{data.value} differs from the data on the machine where the plan was started"
    )


def _data_key(data: str, source: Source) -> str:
    """What identifies the content of a data set: its name, its fingerprints, and the code of a user's own."""
    fingerprints = [f"{name} {split.fingerprint}" for name, split in sorted(source.splits.items())]
    return ", ".join([data_name(data), *fingerprints, *filter(None, [code_digest([data])])])
