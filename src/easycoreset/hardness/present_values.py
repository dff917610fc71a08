"""Present values: each sample's value in a recorded column in the last epoch that trained on it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from easycoreset.tables import Floats, Ints

Epochs = npt.NDArray[np.int32]


class PresentValues:
    """Values [N] by column, NaN for samples that were never seen, and the epochs that they are from."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.values = dict[str, Floats]()
        self.epochs = dict[str, Epochs]()

    def update(self, columns: Mapping[str, Floats], epoch: int) -> None:
        """Take over the finite values of an epoch; the other samples keep their old ones."""
        for name, new in columns.items():
            values = self.values.setdefault(name, np.full(self.size, np.nan, np.float32))
            epochs = self.epochs.setdefault(name, np.full(self.size, -1, np.int32))
            seen = np.isfinite(new)
            values[seen] = new[seen]
            epochs[seen] = epoch

    def latest(self, name: str) -> Floats:
        """The values of a column, [N]."""
        return self.values[name].copy() if name in self.values else np.full(self.size, np.nan, np.float32)

    def ages(self, name: str, epoch: int) -> Ints:
        """Epochs since each sample's value, [N]; -1 for samples that were never seen."""
        epochs = self.epochs.get(name, np.full(self.size, -1, np.int32)).astype(np.int64)
        return np.where(epochs >= 0, epoch - epochs, -1)

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint."""
        return {
            name: {"values": torch.tensor(values), "epochs": torch.tensor(self.epochs[name])}
            for name, values in self.values.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.values = {name: saved["values"].numpy().copy() for name, saved in state.items()}
        self.epochs = {name: saved["epochs"].numpy().copy() for name, saved in state.items()}
