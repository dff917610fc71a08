"""A grid's corruptions and certificates: added to finished cells, on the images that were asked for, on the page."""

import json

import pyarrow.parquet as pq
import pytest
from grids import SMALL, done, record, stamps

from easycoreset import report
from easycoreset.tables.holdout import hold_out

BEYOND = ("--corruptions", "gaussian_noise,contrast@30", "--certify", "n=100:n0=20:sigma=0.5@10")
LINE = [value if value != "random,easycore" else "random,middle:by=aign" for value in SMALL]


def test_they_are_added_to_a_finished_grid_and_train_nothing(tmp_path, cli, inline):
    grid = tmp_path / "grid"
    assert cli("compare", *LINE, "--limit", 40, "--out", grid).code == 0
    before = stamps(grid)
    dry = cli("compare", *LINE, "--limit", 40, *BEYOND, "--dry-run", "--json", "--out", grid)
    assert dry.code == 0 and dry.json["kinds"] == {"evaluate": 18}
    ran = cli("compare", *LINE, "--limit", 40, *BEYOND, "--out", grid)
    assert ran.code == 0, ran.err
    after = stamps(grid)
    assert {name: after[name] for name in before} == before and done(grid) == 6 + 18
    found = set()
    for cell in record(grid)["cells"]:
        for entry in cell["beyond"]:
            summary = json.loads((grid / "steps" / f"evaluate-{entry['key']}" / "evaluation.json").read_text())[
                "summary"
            ]
            measured = [kind["corruption"] for kind in summary.get("corruptions", {}).get("kinds", ())]
            certified = [line["certificate"] for line in summary.get("certificates", ())]
            found.add((*measured, *certified, summary["samples"]))
    assert found == {("gaussian_noise", 40), ("contrast", 30), ("sigma=0.5:n0=20:n=100", 10)}
    text = report(out=grid).path.read_text()
    assert "Corrupted images" in text and "Certified radii" in text and "What the corruptions look like" in text
    again = cli("compare", *LINE, "--limit", 40, "--out", grid)  # what is left out is left in place
    assert again.code == 0 and stamps(grid) == after and "Certified radii" in report(out=grid).path.read_text()


def test_a_grid_can_be_judged_on_held_out_samples_alone(tmp_path, cli, inline, digits):
    line = [*LINE, "--val-fraction", 0.2, "--vary", "evaluate.split=val", "--corruptions", "contrast@30"]
    ran = cli("compare", *line, "--out", tmp_path / "grid")
    assert ran.code == 0, ran.err
    held_out = set(hold_out(digits.splits["train"].labels, 0.2)[1].tolist())
    tables = list((tmp_path / "grid" / "steps").glob("evaluate-*/predictions.parquet"))
    assert len(tables) == 2 * 6 and all(set(pq.read_table(file)["index"].to_pylist()) <= held_out for file in tables)
    page = report(out=tmp_path / "grid").path.read_text()
    assert "Not on test images" in page and "best epoch" not in page
    ran = cli("compare", *LINE, "--vary", "evaluate.split=val", "--out", tmp_path / "other")
    assert ran.code == 2 and "evaluate.split" in ran.err and "val_fraction" in ran.err


def test_corruptions_are_of_the_epoch_that_is_evaluated(tmp_path, cli, inline):
    line = [*LINE, "--val-fraction", 0.2, "--vary", "evaluate.checkpoint=best", "--corruptions", "contrast@30"]
    assert cli("compare", *line, "--out", tmp_path / "grid").code == 0
    files = list((tmp_path / "grid" / "steps").glob("evaluate-*/evaluation.json"))
    assert len(files) == 12 and {json.loads(f.read_text())["options"]["checkpoint"] for f in files} == {"best"}


@pytest.mark.parametrize(
    ("option", "value", "word"),
    [
        ("corruptions", "fog", "fog"),
        ("corruptions", "contrast:severity=6", "severity"),
        ("corruptions", "contrast@0", "IMAGES"),
        ("certify", "sigma=0", "sigma"),
        ("certify", "sigma=0.25:norm=linf", "norm"),
        ("certify", "sigma=0.25@x", "IMAGES"),
    ],
)
def test_wrong_ones_are_refused_before_anything_is_trained(tmp_path, cli, option, value, word):
    ran = cli("compare", *SMALL, f"--{option}", value, "--out", tmp_path / "grid")
    assert ran.code == 2 and word in ran.err, ran.err
    assert not (tmp_path / "grid" / "steps").exists()
