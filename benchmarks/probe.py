"""What the first minutes on a GPU try: the data, the model and the sizes."""

from pathlib import Path
from typing import Any

import torch

from easycoreset.options import TrainOptions
from easycoreset.recorder import HardnessRecorder
from easycoreset.training import TrainingSetup, fit, fresh_model, prepare


class Probe:
    """The size of everything, and the device."""

    def __init__(self, data: str, tiny: bool, folder: Path) -> None:
        self.tiny = tiny
        self.folder = folder
        self.data = data
        self.device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
        digits = data == "digits"
        self.model = "digits-cnn" if digits else "thin-resnet" if tiny else "resnet18"
        self.images = 64 if tiny else 2000  # compared between devices
        self.batches = (32,) if tiny else (128, 512, 1024)
        self.pass_sizes = (32,) if tiny else (250, 500, 1000, 2000)
        self.steps = 3 if tiny else 40  # updates that are timed
        self.workers = (2,) if tiny else (1, 2, 3)

    def setup(self, **changes: Any) -> TrainingSetup:
        """A training run that is not run as a command."""
        given: dict[str, Any] = {
            "data": self.data,
            "model": self.model,
            "updates": self.steps,
            "device": self.device.type,
            "out": self.folder / "unused",
        }
        options = TrainOptions(**(given | changes))
        return prepare(options, epochs=None, updates=options.updates)


def train(setup: TrainingSetup, recorder: HardnessRecorder | None = None) -> None:
    """A training run from fresh weights."""
    for _ in fit(setup, fresh_model(setup), recorder=recorder):
        pass
