"""Reuse of earlier scores: `run` on data that were cleaned or changed a little since they were scored."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from easycoreset.console import log
from easycoreset.data import Source, has_image_files
from easycoreset.errors import UsageError
from easycoreset.models.card import read_card
from easycoreset.options import PipelineOptions
from easycoreset.paths import sha256_of_file
from easycoreset.plan_folders import STEP_RECORD, STEPS_FOLDER
from easycoreset.records import read_record
from easycoreset.scoring.carrying import match_by_content
from easycoreset.scoring.files import scores_file
from easycoreset.tables import Scores
from easycoreset.training.initial_weights import read_initial_weights
from easycoreset.workflow.steps import External

MIN_SHARE = 0.8  # at least this share of the samples must have been scored with the same label
FILLED = ("model", "epochs", "batch_size", "image_size")  # options that `run` takes over where they are not given


@dataclass(frozen=True)
class EarlierScoring:
    """A finished scoring run in the folder of `run`.

    Attributes:
        folder: its folder.
        made_with: the options that it was made with.
    """

    folder: Path
    made_with: dict[str, Any]

    @property
    def every(self) -> int:
        """Number of epochs from one scored epoch to the next."""
        return self.made_with["every"]

    @property
    def updates(self) -> int:
        """The number of updates of each model trained after scoring."""
        samples = len(Scores.read(self.folder))
        return self.made_with["epochs"] * -(-samples // self.made_with["batch_size"])

    @property
    def scores(self) -> External:
        """The scores as an input."""
        return External(str(self.folder.resolve()), sha256_of_file(scores_file(self.folder, "train")))

    @property
    def weights(self) -> External:
        """The model, which was trained on all samples, as an input."""
        return External(str(self.folder.resolve()), sha256_of_file(self.folder / "model.safetensors"))

    def fill(self, options: PipelineOptions) -> PipelineOptions | None:
        """Fill in the options that are not given from the earlier run; None if a given option differs from it."""
        then = {name: self.made_with.get(name) for name in (*FILLED, "seed")}
        given = {name: value for name in then if (value := getattr(options, name)) is not None}
        had_init = self.made_with.get("init") is not None
        if any(then[name] != value for name, value in given.items()) or had_init != (options.init is not None):
            return None
        if options.init is not None:
            init = read_initial_weights(options.init, read_card(self.folder))
            if self.made_with["init"] != f"weights {init.digest}":
                return None
        if not has_image_files(options.data):
            then["image_size"] = options.image_size
        return replace(options, **{name: then[name] for name in FILLED})

    def fits(self, source: Source) -> bool:
        """Whether most samples of a data set were scored, with the labels that they have now."""
        card = read_card(self.folder)
        if (card.shape, tuple(card.class_names)) != (source.shape, tuple(source.class_names)):
            return False
        split = source.splits["train"]
        match = match_by_content(self.folder, Scores.read(self.folder), split, source.class_names)
        return match is not None and match.facts["matched"] - match.facts["relabelled"] >= MIN_SHARE * len(split)


def find_scorings(out: Path) -> Iterator[EarlierScoring]:
    """The finished scoring runs in a folder, the latest first; damaged ones are left out."""
    records = (out / STEPS_FOLDER).glob(f"score-*/{STEP_RECORD}")
    for file in sorted(records, key=lambda file: file.stat().st_mtime_ns, reverse=True):
        try:
            made_with = read_record(file.parent / "run.json").get("options", {})
        except UsageError as error:
            log.info("%s: %s", file.parent, error)
            continue
        if {"model", "epochs", "every", "batch_size", "seed"} <= made_with.keys():
            yield EarlierScoring(file.parent, made_with)
