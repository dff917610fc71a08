"""scikit-learn's bundled 8x8 digits, with a fixed split."""

import numpy as np

from easycoreset.data.images import memory_split
from easycoreset.data.source import Reading, Source
from easycoreset.tables.holdout import hold_out


def load_digits(location: str, reading: Reading) -> Source:
    """1,797 grey images of 8x8 pixels in 10 classes; a stratified fifth is the test split."""
    from sklearn import datasets

    flat, labels = (np.asarray(array) for array in datasets.load_digits(return_X_y=True))
    images = flat.reshape(-1, 8, 8)
    pixels = np.round(images * (255 / 16)).astype(np.uint8)[..., None]
    splits = {}
    for name, rows in zip(("train", "test"), hold_out(labels), strict=True):
        splits[name] = memory_split(name, pixels[rows], labels[rows], [f"digits/{row:04d}" for row in rows])
    return Source("digits", splits, [str(k) for k in range(10)], (1, 8, 8), (0.3055,), (0.3759,))
