"""Rows on corrupted images and by certified radius: each image's share of passes, paired over seeds and images."""

import pyarrow as pa
import pytest

from easycoreset.statistics import Outcomes
from easycoreset.statistics.beyond import BeyondTheBall, Measure, read_certified, read_corrupted
from easycoreset.statistics.settings import Setting

EIGHT = ["blur", "noise"]
CORRUPTED = {
    "mean_of_eight": {"of": EIGHT},
    "computed": ["blur", "noise", "saturate"],
    "kinds": [{"corruption": name} for name in ("blur", "noise", "saturate", "cifar10-c:fog")],
    "severities": {"1": {}, "2": {}},
}


def corrupted(right):
    """A table of images 7 and 3, in that order; `right` is (corruption, severity) -> whether each is right."""
    lines = [(i, c, s, 0 if ok else 1) for (c, s), both in right.items() for i, ok in zip((7, 3), both, strict=True)]
    index, names, severity, pred = (list(values) for values in zip(*lines, strict=True))
    return pa.table(
        {"index": index, "label": [0] * len(index), "corruption": names, "severity": severity, "pred": pred}
    )


def test_every_image_has_the_share_of_passes_in_which_it_is_right():
    table = corrupted(
        {
            ("blur", 1): (1, 1),
            ("blur", 2): (0, 1),
            ("noise", 1): (0, 1),
            ("noise", 2): (0, 0),
            ("saturate", 1): (1, 0),
            ("saturate", 2): (1, 0),
            ("cifar10-c:fog", 1): (1, 0),
            ("cifar10-c:fog", 2): (0, 0),
        }
    )
    images, values = read_corrupted(table, CORRUPTED)
    assert images.tolist() == [3, 7]
    assert values[Measure("mean", "mean_of_eight")].tolist() == [0.75, 0.25]
    assert values[Measure("corruption", "saturate")].tolist() == [0, 1]
    assert values[Measure("corruption", "cifar10-c:fog")].tolist() == [0, 0.5]
    assert values[Measure("severity", level=1)].tolist() == pytest.approx(
        [2 / 3, 2 / 3]
    )  # without the benchmark's file


def test_a_radius_is_certified_where_it_is_at_least_as_large():
    table = pa.table(
        {
            "index": [9, 2, 5, 9, 2, 5],
            "certificate": ["a", "a", "a", "b", "b", "b"],
            "radius": pa.array([0.3, None, 0.1, None, 0.5, None], pa.float64()),
        }
    )
    summary = [{"certificate": name, "certified": [{"radius": 0.0}, {"radius": 0.3}]} for name in "ab"]
    images, values = read_certified(table, summary)
    assert images.tolist() == [2, 5, 9]
    assert values[Measure("radius", "a", 0.0)].tolist() == [0, 1, 1]
    assert values[Measure("radius", "a", 0.3)].tolist() == [0, 0, 1]
    assert values[Measure("radius", "b", 0.3)].tolist() == [1, 0, 0]


def grid(images_of, radii=(0.2,)):
    """Two seeds of one method; `images_of` is seed -> the images of its evaluation beyond the ball."""
    common = {"data": "d", "model": "m", "method": "easycore", "fraction": 0.5, "objective": "standard", "variant": ""}
    common |= {"scoring": "", "updates": 10, "epochs": None, "main": 0.1, "eps": 0.1, "attack": "pgd", "strong": False}
    rows = [common | {"cell": f"c{seed}", "seed": seed, "evaluation": f"e{seed}"} for seed in images_of]
    predicted = {}
    for seed, images in images_of.items():
        n = len(images)
        predicted[f"b{seed}"] = pa.table(
            {
                "index": [*images, *images],
                "label": [image % 2 for image in images] * 2,
                "attack": ["clean"] * n + ["fgsm"] * n,
                "eps": [0.0] * n + [0.1] * n,
                "broken": [image == 4 for image in images] + [True] * n,
            }
        )
    tables = {
        f"b{seed}": pa.table(
            {"index": images, "certificate": ["a"] * len(images), "radius": [0.1 * (seed + 1)] * len(images)}
        )
        for seed, images in images_of.items()
    }
    summary = [{"certificate": "a", "certified": [{"radius": radius} for radius in radii]}]
    evaluations = {f"c{seed}": [{"key": f"b{seed}", "certificates": summary}] for seed in images_of}
    outcomes = Outcomes(pa.Table.from_pylist(rows), predicted.__getitem__)
    return BeyondTheBall(outcomes, evaluations, lambda key, name: tables[key])


def test_a_row_holds_every_seed_and_the_same_images_as_they_are():
    results = grid({0: [4, 1], 1: [1, 4]})
    (measure,) = results.measures()
    row = results.row(Setting("d", "m", "standard", 0.5), ("easycore", 10), measure)
    assert row.seeds == (0, 1) and row.images.tolist() == [1, 4] and row.labels.tolist() == [1, 0]
    assert row.clean.tolist() == [[True, False]] * 2 and row.robust.tolist() == [[0, 0], [1, 1]]
    assert results.row(Setting("d", "m", "standard", 0.5), ("random", 10), measure) is None
    assert results.row(Setting("d", "m", "standard", 0.5), ("easycore", 10), Measure("mean", "x")) is None


@pytest.mark.parametrize(
    ("images", "seeds"), [({0: [4, 1], 1: [1, 5], 2: [5, 1]}, (1, 2)), ({0: [4, 1], 1: [1, 5, 6]}, (1,))]
)
def test_seeds_on_other_images_are_left_out(images, seeds):
    """The most common images count; of two that are as common the larger number."""
    results = grid(images)
    row = results.row(Setting("d", "m", "standard", 0.5), ("easycore", 10), results.measures()[0])
    assert row.seeds == seeds and row.images.tolist() == sorted(images[seeds[0]])


def test_clean_is_of_the_smoothed_model_where_it_was_measured():
    """Every image is certified at radius 0; image 4 is wrong without noise."""
    results = grid({0: [4, 1], 1: [1, 4]}, radii=(0.0, 0.2))
    row = results.row(Setting("d", "m", "standard", 0.5), ("easycore", 10), Measure("radius", "a", 0.2))
    assert row.clean.tolist() == [[True, True]] * 2 and row.robust.tolist() == [[0, 0], [1, 1]]
