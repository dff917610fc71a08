"""Taking over the scores of an earlier state of the data: samples are matched by their content."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from easycoreset.console import log
from easycoreset.data import Split
from easycoreset.data.content_hashes import find_leaked, hash_images, training_digests
from easycoreset.errors import require
from easycoreset.models.card import read_card
from easycoreset.options import CarryOptions, accept_options, options_json
from easycoreset.paths import sha256_of_file
from easycoreset.run_folders import open_run_folder
from easycoreset.scoring.files import scores_file
from easycoreset.tables import Scores
from easycoreset.tables.matching import Match, match_contents, take_matched
from easycoreset.training.setup import open_data, options_record


@accept_options(CarryOptions)
def carry_scores(options: CarryOptions) -> Scores:
    """Write the scores of the current data into the folder `out`: new and relabelled samples have none.

    Raises:
        UsageError: the contents of the samples that were scored are not known.
    """
    _, source = open_data(options)
    split = source.splits["train"]
    file = scores_file(options.scores, "train")
    identity = options_json(options, neutral=False) | {"scores": sha256_of_file(file), "data": split.fingerprint}
    with open_run_folder(options.out, "carry", identity, overwrite=options.overwrite, output_names=(file.name,)) as run:
        if not run.done:
            scores = Scores.read(file)
            match = match_by_content(options.scores, scores, split, source.class_names)
            require(match is not None, "scores", "of a run that knows the contents of its samples", str(options.scores))
            assert match is not None
            log.info("scores are taken over: %s", ", ".join(f"{count:,} {name}" for name, count in match.facts.items()))
            carried = replace(take_matched(scores, split, source.class_names, match), in_test=find_leaked(source))
            carried.write(scores_file(run.path, "train"))
            run.finish(summary=match.facts, provenance=carried.provenance, given=options_record(options))
        return Scores.read(scores_file(run.path, "train"))


def match_by_content(folder: Path, scores: Scores, split: Split, class_names: Sequence[str]) -> Match | None:
    """Match the samples of a split with those of a scoring run; None where contents are not known."""
    trained = read_card(folder).trained_on or {}
    then, now = training_digests(trained), hash_images(split)
    if then is None or now is None or not trained.get("in_order") or len(then) != len(scores):
        return None
    return match_contents(scores, split, class_names, (then, now))
