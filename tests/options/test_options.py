"""Options: each defined once, and the same in Python, as a flag, in YAML and in a member's `key=value`."""

import json
from pathlib import Path

import pytest
import torch

from easycoreset import UsageError, train
from easycoreset.attacks import load_attack
from easycoreset.conversion import convert
from easycoreset.models.saved import load_model
from easycoreset.options import OPTIONS, CompareOptions, ScoreOptions, TrainOptions, field_names
from easycoreset.reporting import report
from easycoreset.workflow.comparing import run_comparison
from easycoreset.workflow.grids import parse_axes
from easycoreset.workflow.inputs import Inputs
from easycoreset.workflow.recipes import read_grid
from easycoreset.workflow.steps import KINDS, External, Step, result_defaults

NOT_OF_A_GRID = {  # why `compare` does not take an option of `train`
    "objective": "an axis: objectives",
    "eps": "of the objective: trades:eps=0.1; a grid's eps is the evaluation's",
    "coreset": "the methods choose, and file:PATH is a method",
    "method": "an axis: methods, dynamic ones among them",
    "fraction": "an axis: fractions",
    "allow_subset": "of a coreset",
    "seed": "an axis: seeds",
    "threads": "a step has one",
    "profile": "one run is profiled, not many at once",
    "checkpoint_minutes": "a step is resumed as it is",
    "track": "of one run, not of many at once",
}
NOT_OF_SCORING = {  # why `compare` does not take an option of `score` as score.OPTION
    "data": "an axis: data",
    "model": "an axis: model",
    "init": "of the whole grid",
    "image_size": "of the whole grid",
    "classes": "of the whole grid",
    "group_by": "of the whole grid",
    "skip_unreadable": "of the whole grid",
    "coreset": "all samples are scored",
    "split": "coresets are of the training split",
    "checkpoints": "a grid scores by its own runs",
    "input_mean": "of checkpoints",
    "input_std": "of checkpoints",
    "seed": "an axis: seeds",
    "out": "of the whole grid",
}
TINY = {
    "data": "digits",
    "model": "digits-cnn",
    "methods": ("random", "easycore"),
    "fractions": (0.2,),
    "updates": (3,),
    "seeds": "1",
    "limit": 20,
    "attack": ("pgd:steps=2",),
    "controls": ("none",),
}


def build_cells(**changes):
    """The cells of a tiny grid."""
    options = CompareOptions(**{**TINY, "methods": ("easycore",), "out": "out", **changes})
    return [cell for cells in read_grid(options).build_cells(Inputs()) for cell in cells]


def test_compare_offers_every_option_of_training():
    lacking = set(field_names(TrainOptions)) - set(field_names(CompareOptions))
    assert lacking <= set(NOT_OF_A_GRID), "an option that cells can use, or whose absence has no reason"
    for name in set(NOT_OF_A_GRID) & set(field_names(CompareOptions)):
        assert name == "eps"


def vary_scoring(name):
    """Name an option of scoring as an axis with one value; returns the axes."""
    values = {"hardness": ["aign"], "scoring_batch_size": [100], "input_mean": [0.5], "input_std": [0.5]}
    value = values.get(name, [result_defaults(ScoreOptions).get(name)])
    return parse_axes(CompareOptions(**TINY, vary={f"score.{name}": value}, out="out"))


SCORING_AXES = set(field_names(ScoreOptions, neutral=False)) - set(NOT_OF_SCORING) | {
    "feature_layer",
    "scoring_batch_size",
}


@pytest.mark.parametrize("name", sorted(SCORING_AXES))
def test_an_axis_may_be_any_option_of_scoring(name):
    axes = vary_scoring(name)
    assert list(axes) == [f"score.{name}"] and len(axes[f"score.{name}"]) == 1


@pytest.mark.parametrize("name", sorted(set(field_names(ScoreOptions)) - SCORING_AXES))
def test_an_axis_is_no_option_that_the_grid_gives_or_that_changes_no_result(name):
    with pytest.raises(UsageError, match=rf"^vary\b.*'{name}'"):
        vary_scoring(name)


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


KEYS = {  # of steps with these options: another key would compute all finished steps again
    "score": ({"model": "digits-cnn", "epochs": 15, "seed": 1000}, "c6800aa86f8971ae"),
    "select": ({"method": "easycore:per_class=true", "fraction": 0.2}, "fe74d2b17b8eb8da"),
    "train": ({"model": "digits-cnn", "updates": 3, "objective": "trades:eps=0.1"}, "675065238c7ad708"),
    "evaluate": ({"attack": ("pgd:steps=2",), "eps": (0.1,), "limit": 20}, "a451dfb77589c6fa"),
    "measure": ({"hardness": ("vog",), "save_features": "clean"}, "f57e44be72f4901c"),
    "audit": ({"seed": 3}, "de46e7757d512309"),
}


@pytest.mark.parametrize("kind", KEYS)
def test_the_keys_of_finished_steps_stay(kind):
    options, key = KEYS[kind]
    step = Step(kind=kind, options=options, inputs={"data": External("some/where", "the content")}, title="a step")
    assert step.key == key


@pytest.mark.parametrize("kind", KEYS)
def test_a_new_option_renames_no_finished_step(kind):
    """An option at its default does not count, and neither do titles, places, and options that change no result."""
    options = KEYS[kind][0]
    defaults = {name: value for name, value in result_defaults(KINDS[kind].options).items() if name not in options}
    step = Step(kind=kind, options=options, inputs={"data": External("some/where", "the content")}, title="a step")
    other = Step(
        kind=kind,
        options={**defaults, "device": "cuda", "threads": 7, **options},
        inputs={"data": External("else/where", "the content")},
        title="the same step",
    )
    assert other.key == step.key
    changed = Step(kind=kind, options=options, inputs={"data": External("some/where", "other content")}, title="a step")
    assert changed.key != step.key


def test_an_optimizers_defaults_are_the_same_cell_whether_they_are_spelled_or_not():
    (plain,) = build_cells()
    spelled, slow = build_cells(weight_decay=5e-4, vary={"lr": [0.1, 0.001]})
    assert plain.name == spelled.name != slow.name and plain.variant == spelled.variant == ""
    (adamw,) = build_cells(optimizer="adamw")
    spelled, fast = build_cells(optimizer="adamw", vary={"lr": [0.001, 0.1]})
    assert adamw.name == spelled.name != plain.name and adamw.name != fast.name
    assert {step.key for step in adamw.targets} == {step.key for step in spelled.targets}


@pytest.mark.parametrize("change", [{"momentum": 0.5}, {"augment": "flip"}, {"optimizer": "adamw"}, {"warmup": 1.0}])
def test_scoring_follows_training(change):
    def scoring(**changes):
        (cell,) = build_cells(**changes)
        return cell.steps["score"].key

    assert scoring(**change) != scoring()
    assert scoring(ema=0.9, schedule="cosine") == scoring()
    name, value = next(iter(change.items()))
    assert scoring(vary={f"score.{name}": [value]}) == scoring(**change)  # unless scoring has an option of its own
    plain = getattr(TrainOptions(data="digits", epochs=1, out=Path("out")), name)
    if plain is not None:
        assert scoring(**change, vary={f"score.{name}": [plain]}) == scoring()


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
@pytest.mark.filterwarnings("ignore::easycoreset.EasycoresetWarning")
def test_cells_are_trained_and_scored_by_the_options_of_the_grid(tmp_path, inline):
    more = {
        "optimizer": "adamw",
        "ema": 0.5,
        "augment": "flip",
        "momentum": 0.8,
        "precision": "fp32",
        "on_nan": "continue",
    }
    run_comparison(CompareOptions(**TINY, **more, vary={"score.every": [2], "score.epochs": [2]}, out=tmp_path))
    trained = [json.loads(path.read_text())["options"] for path in tmp_path.glob("steps/train-*/run.json")]
    scored = [json.loads(path.read_text())["options"] for path in tmp_path.glob("steps/score-*/run.json")]
    assert len(trained) == 2 and len(scored) == 1
    for options in trained:
        assert {name: options[name] for name in more} == more
    of_scoring = {name: value for name, value in more.items() if name != "ema"} | {"every": 2, "epochs": 2}
    assert {name: scored[0][name] for name in of_scoring} == of_scoring and scored[0]["ema"] is None
    (setting,) = (text for text in report(out=tmp_path).path.read_text().split("<li>") if text.startswith("Training: "))
    assert all(f"{name} {value}" in setting for name, value in more.items())
    assert "lr 0.001, weight_decay 0.01, schedule onecycle" in setting and "warmup" not in setting
    assert "score.epochs 2, score.every 2" in setting


@pytest.mark.slow
def test_cells_start_from_weights_by_their_content(tmp_path, inline):
    train(data="digits", model="digits-cnn", updates=5, out=tmp_path / "first")
    grid = {"model": (), "methods": ("random",), "out": tmp_path / "g"}
    cells = build_cells(**grid, init=str(tmp_path / "first"))
    (tmp_path / "first").rename(tmp_path / "moved")
    grid["init"] = str(tmp_path / "moved")
    moved = build_cells(**grid)
    assert [cell.name for cell in cells] == [cell.name for cell in moved] and cells[0].model == "digits-cnn"
    run_comparison(CompareOptions(**TINY | grid | {"updates": (1,)}, lr=1e-9))
    (model,) = tmp_path.glob("g/steps/train-*")
    first = load_model(tmp_path / "moved").state_dict()
    assert all(
        torch.allclose(value, first[name], atol=1e-6)
        for name, value in load_model(model).state_dict().items()
        if "running" not in name and "num_batches" not in name
    )
