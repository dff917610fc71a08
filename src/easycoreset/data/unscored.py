"""A table of a data set's samples without any hardness, for methods and lists of samples that need none."""

import numpy as np

from easycoreset.data.content_hashes import find_leaked
from easycoreset.data.source import Source
from easycoreset.tables import Scores


def unscored_table(source: Source) -> Scores:
    """The samples of the training split, with no column and never observed."""
    split = source.splits["train"]
    return Scores(
        sample_ids=split.sample_ids,
        labels=split.labels,
        class_names=list(source.class_names),
        n_obs=np.zeros(len(split), np.int32),
        columns={},
        provenance={"fingerprint": split.fingerprint, "split": "train", "data": source.name},
        in_test=find_leaked(source),
    )
