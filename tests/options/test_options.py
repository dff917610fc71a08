"""Options: each defined once, and the same in Python, as a flag, in YAML and in a member's `key=value`."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from easycoreset import UsageError, train
from easycoreset.attacks import load_attack
from easycoreset.conversion import convert
from easycoreset.experiment import Cell, run_experiment
from easycoreset.models.saved import load_model
from easycoreset.options import OPTIONS, CompareOptions, ScoreOptions, TrainOptions, field_names
from easycoreset.pipeline.experiment_options import build_experiment
from easycoreset.recipes import cifar10_main
from easycoreset.reporting import report

NOT_OF_A_GRID = {  # why `compare` does not take an option of `train` or `score`
    "objective": "an axis: objectives",
    "eps": "of the objective: trades:eps=0.1; a grid's eps is the evaluation's",
    "coreset": "the methods choose, and file:PATH is a method",
    "allow_subset": "of a coreset",
    "seed": "an axis: seeds",
    "threads": "a cell has one",
    "profile": "one run is profiled, not many at once",
    "checkpoint_minutes": "a cell is kept by its folder",
    "track": "the folder of a cell's training is temporary",
    "checkpoints": "a grid scores by its own runs",
    "input_mean": "of checkpoints",
    "input_std": "of checkpoints",
    "mode": "methods look at the columns of the exact pass",
    "agreement": "of mode online",
    "hardness": "what the methods need is measured",
    "save_features": "what the methods need is saved",
    "split": "coresets are of the training split",
    "keep_checkpoints": "keep_weights says it",
}
TINY = {
    "data": "digits",
    "model": "digits-cnn",
    "methods": ("random", "easycore"),
    "fractions": (0.2,),
    "updates": (3,),
    "seeds": 1,
    "scoring_epochs": 2,
    "limit": 20,
    "attack": ("pgd:steps=2",),
    "controls": ("none",),
}


@pytest.mark.parametrize("command", [TrainOptions, ScoreOptions])
def test_compare_offers_every_option_of_training_and_scoring(command):
    lacking = set(field_names(command)) - set(field_names(CompareOptions))
    assert lacking <= set(NOT_OF_A_GRID), "an option that cells can use, or whose absence has no reason"
    for name in set(NOT_OF_A_GRID) & set(field_names(CompareOptions)):
        assert name == "eps"


def test_every_option_is_documented_under_its_field():
    for kind in OPTIONS.values():
        from easycoreset.options.fields import describe_fields

        assert set(describe_fields(kind)) >= set(field_names(kind)), kind


@pytest.mark.parametrize(
    ("hint", "text", "value"),
    [
        (int, "12", 12),
        (int | None, "12", 12),
        (float, "8/255", 8 / 255),
        (float | None, "1e-3", 1e-3),
        (bool, "true", True),
        (bool | None, "False", False),
        (tuple[float, ...], "1/4,2", (0.25, 2.0)),
        (tuple[str, ...], "a,b:c=1", ("a", "b:c=1")),
        (Path, "some/where", Path("some/where")),
    ],
)
def test_text_and_values_come_to_the_same(hint, text, value):
    assert convert("option", text, hint, text=True) == value == convert("option", value, hint)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (int, "12"),
        (int, 1.0),
        (int, True),
        (bool, 1),
        (bool, "true"),
        (float, True),
        (str, 3),
        (tuple[int, ...], "1,2"),
    ],
)
def test_python_and_yaml_are_not_coerced(hint, value):
    with pytest.raises(UsageError, match=r"^option\b"):
        convert("option", value, hint)


def test_one_value_is_converted_alike_everywhere(cli, tmp_path):
    """The same wrong number in Python, as a flag, in YAML and in a member: the option and the value are named."""
    (tmp_path / "o.yaml").write_text("lr: fast\n")
    line = ("train", "--data", "digits", "--epochs", "1", "--out", tmp_path / "t")
    errors = [cli(*line, "--lr", "fast").err, cli(*line, "--config", tmp_path / "o.yaml").err]
    for wrong in (
        lambda: TrainOptions(data="digits", epochs=1, lr="fast", out=tmp_path),
        lambda: load_attack("pgd:eps=fast"),
    ):
        with pytest.raises(UsageError) as raised:
            wrong()
        errors.append(str(raised.value))
    assert all("'fast'" in error for error in errors)
    assert [("lr" in error, "eps" in error) for error in errors] == [(True, False)] * 3 + [(False, True)]


def test_a_new_option_renames_no_finished_cell():
    """The committed cells of `cifar10-main`, which version 0.1's code computed, are those of the recipe now."""
    done = {path.name for path in Path("results/cifar10-main/cells").iterdir()}
    assert done and done <= {cell.name for cell in cifar10_main("cifar10:somewhere").cells()}


def test_an_option_keeps_its_first_name_in_the_keys_of_cells():
    assert Cell(data="photos", skip_unreadable=True).key() == {"data": "photos", "skip_broken": True}


def test_an_optimizers_defaults_are_the_same_cell_whether_they_are_spelled_or_not():
    plain = Cell(data="digits")
    assert plain.name == Cell(data="digits", lr=0.1, weight_decay=5e-4).name
    assert plain.name != Cell(data="digits", lr=0.001).name
    adamw = Cell(data="digits", optimizer="adamw")
    assert adamw.name == Cell(data="digits", optimizer="adamw", lr=0.001).name != plain.name
    assert adamw.name != Cell(data="digits", optimizer="adamw", lr=0.1).name


@pytest.mark.parametrize("change", [{"momentum": 0.5}, {"augment": "flip"}, {"optimizer": "adamw"}, {"warmup": 1.0}])
def test_scoring_follows_training(change):
    plain = Cell(data="digits")
    assert dataclasses.replace(plain, **change).scoring_name != plain.scoring_name
    assert dataclasses.replace(plain, ema=0.9, schedule="cosine").scoring_name == plain.scoring_name


def test_adamw_is_torchs(tmp_path):
    """The first update of AdamW moves every weight by the learning rate, whatever its gradient."""
    options = {"data": "digits", "model": "digits-cnn", "schedule": "constant", "seed": 3}
    start = train(
        **options, updates=1, lr=0.0, weight_decay=0.0, optimizer="adamw", out=tmp_path / "start"
    ).state_dict()
    moved = train(**options, updates=1, weight_decay=0.0, optimizer="adamw", out=tmp_path / "moved").state_dict()
    steps = torch.cat([(moved[name] - start[name]).abs().flatten() for name in start if name.endswith("weight")])
    assert steps.max() < 0.00101 and steps[steps > 0].median() == pytest.approx(0.001, rel=0.01)


def test_warmup_rises_to_the_peak(tmp_path):
    options = {"data": "digits", "model": "digits-cnn", "epochs": 3, "batch_size": 400, "augment": "none"}
    train(**options, schedule="constant", warmup=2, out=tmp_path / "t")
    rates = [json.loads(line)["lr"] for line in (tmp_path / "t" / "history.jsonl").read_text().splitlines()]
    steps = 4  # 1,438 samples
    last_of_the_rise = 0.1 * (1 / 25 + 24 / 25 * (2 * steps - 1) / (2 * steps))
    assert rates[1] == pytest.approx(last_of_the_rise) and rates[2] == pytest.approx(0.1)
    with pytest.raises(UsageError, match="warmup"):
        train(**options, warmup=3, out=tmp_path / "u")


@pytest.mark.slow
def test_cells_are_trained_and_scored_by_the_options_of_the_grid(tmp_path, inline):
    more = {
        "optimizer": "adamw",
        "ema": 0.5,
        "augment": "flip",
        "momentum": 0.8,
        "every": 2,
        "precision": "fp32",
        "on_nan": "continue",
    }
    run_experiment(build_experiment(CompareOptions(**TINY, **more, out=tmp_path)), tmp_path, keep_weights=True)
    trained = [json.loads(path.read_text())["options"] for path in tmp_path.glob("cells/*/model/run.json")]
    scored = [json.loads(path.read_text())["options"] for path in tmp_path.glob("scores/*/run.json")]
    assert len(trained) == 2 and len(scored) == 1
    for options in trained:
        assert {name: options[name] for name in more if name != "every"} == {
            n: v for n, v in more.items() if n != "every"
        }
    of_scoring = {name: value for name, value in more.items() if name != "ema"}
    assert {name: scored[0][name] for name in of_scoring} == of_scoring and scored[0]["ema"] is None
    (setting,) = (text for text in report(out=tmp_path).read_text().split("<li>") if text.startswith("Training: "))
    assert all(f"{name} {value}" in setting for name, value in more.items())
    assert "lr 0.001, weight_decay 0.01, schedule auto" in setting and "warmup" not in setting


@pytest.mark.slow
def test_cells_start_from_weights_by_their_content(tmp_path, inline):
    train(data="digits", model="digits-cnn", updates=5, out=tmp_path / "first")
    grid = {**TINY, "methods": ("random",), "init": str(tmp_path / "first")}
    del grid["model"]
    cells = build_experiment(CompareOptions(**grid, out=tmp_path / "g")).cells()
    (tmp_path / "first").rename(tmp_path / "moved")
    moved = build_experiment(CompareOptions(**grid | {"init": str(tmp_path / "moved")}, out=tmp_path / "g")).cells()
    assert [cell.name for cell in cells] == [cell.name for cell in moved] and cells[0].model == "digits-cnn"
    run_experiment(
        build_experiment(
            CompareOptions(**grid | {"init": str(tmp_path / "moved"), "updates": (1,)}, lr=1e-9, out=tmp_path / "g")
        ),
        tmp_path / "g",
        keep_weights=True,
    )
    (model,) = tmp_path.glob("g/cells/*/model")
    first = load_model(tmp_path / "moved").state_dict()
    assert all(
        torch.allclose(value, first[name], atol=1e-6)
        for name, value in load_model(model).state_dict().items()
        if "running" not in name and "num_batches" not in name
    )
