"""Evaluation: figures that agree with the per-sample outcomes, resume, and checks that catch bad models."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from easycoreset import RunError, UsageError, evaluate, load_model, train
from easycoreset.attacks import load_attack
from easycoreset.attacks.climbing import Judge
from easycoreset.documents.check_words import WORDS
from easycoreset.evaluation import attack_run, attack_split, checks, margins
from easycoreset.evaluation.attack_run import AttackProgress, check_in_ball
from easycoreset.evaluation.checks import check_large_eps, check_model_behaviour, check_order
from easycoreset.evaluation.classes import summarise_classes
from easycoreset.evaluation.outcomes import Outcome, clean_outcome, predict_logits, summarise_outcome
from easycoreset.models.card import read_card
from easycoreset.models.modes import Bf16Autocast
from easycoreset.models.saved import save_model
from easycoreset.options import CompareOptions, EvaluateOptions
from easycoreset.proportions import wilson_interval
from easycoreset.reporting import report
from easycoreset.tables.holdout import hold_out
from easycoreset.workflow.comparing import run_comparison
from support.messages import named


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    train(data="digits", updates=100, out=folder)
    return folder


def test_figures_agree_with_the_outcomes(trained, tmp_path, digits):
    result = evaluate(
        data="digits",
        weights=trained,
        eps=[0.05, 0.1],
        attack=["pgd:steps=5", "fgsm", "noise"],
        save_adversarial=True,
        out=tmp_path / "e",
    )
    frame = pq.read_table(tmp_path / "e" / "predictions.parquet").to_pandas()
    assert list(frame.columns) == ["index", "sample_id", "label", "attack", "norm", "eps", "pred", "broken"]
    ids = digits.splits["test"].sample_ids
    assert [str(name) for name in frame["sample_id"]] == [ids[row] for row in frame["index"]]
    assert len(frame) == 359 * 7 and (frame["broken"] == (frame["pred"] != frame["label"])).all()
    record = json.loads((tmp_path / "e" / "evaluation.json").read_text())["summary"]
    model = load_model(trained)
    batch = next(digits.splits["test"].batches(np.arange(359), 359))
    wrong = (model(batch.x).argmax(1) != batch.y).numpy()
    assert record["clean"]["accuracy"] == pytest.approx(1 - wrong.mean())
    for line in record["attacked"]:
        rows = frame[(frame["attack"] == line["attack"]) & (frame["eps"] == line["eps"])]
        assert (
            line["accuracy"] == pytest.approx(1 - rows["broken"].mean())
            and line["low"] < line["accuracy"] < line["high"]
        )
        assert rows["broken"].to_numpy()[wrong].all()  # wrong when clean is broken at every eps
        place = f"{line['attack'].replace(':', '-').replace('=', '_')}-linf-{line['eps']:.4f}.safetensors"
        saved = load_file(tmp_path / "e" / "adversarial" / place)
        assert (saved["x"] - batch.x).abs().max() <= line["eps"] + 1e-6
        assert np.array_equal(model(saved["x"]).argmax(1).numpy(), rows["pred"])
    worst = {line["eps"]: line["accuracy"] for line in record["worst"]}
    for eps in (0.05, 0.1):
        at = frame[frame["eps"] == eps].groupby("index")["broken"].any()
        assert worst[eps] == pytest.approx(1 - at.mean())
    assert [w.accuracy for w in result.worst] == [worst[0.05], worst[0.1]] and worst[0.1] < worst[0.05]


@pytest.mark.parametrize("share", [1.0, 0.2])
def test_each_class_beside_scikit_learn(share):
    """Four unequal classes, one of which is never predicted; also where a class does not occur."""
    from sklearn.metrics import balanced_accuracy_score, confusion_matrix

    rng = np.random.default_rng(0)
    labels = rng.choice(4, 500, p=[0.6, 0.3, 0.08, 0.02]) if share == 1 else rng.choice(3, 500, p=[0.7, 0.2, 0.1])
    index = np.sort(rng.permutation(500)[: round(500 * share)])
    pred = np.where(rng.random(len(index)) < 0.7, labels[index], rng.integers(0, 3, len(index)))
    clean = Outcome("clean", "", 0.0, index, pred, pred != labels[index])
    worst = [
        Outcome("worst", "linf", eps, index, pred, clean.broken | (rng.random(len(index)) < eps)) for eps in (0.1, 0.5)
    ]
    found = summarise_classes(clean, worst, labels, list("abcd"))
    matrix = confusion_matrix(labels[index], pred, labels=range(4))
    occurring = np.flatnonzero(matrix.sum(1))
    assert [line["class"] for line in found["classes"]] == ["abcd"[k] for k in occurring]
    for line, k in zip(found["classes"], occurring, strict=True):
        own = labels[index] == k
        assert line["samples"] == own.sum() and line["accuracy"] == pytest.approx(matrix[k, k] / own.sum())
        assert line["worst"] == pytest.approx([1 - outcome.broken[own].mean() for outcome in worst])
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels[index], pred))
    assert found["worst_class"] == "abcd"[occurring[np.argmin(np.diag(matrix)[occurring] / matrix.sum(1)[occurring])]]
    pairs = {(line["label"], line["predicted"]): line["count"] for line in found["confusions"]}
    np.fill_diagonal(matrix, 0)
    assert pairs == {("abcd"[a], "abcd"[b]): matrix[a, b] for a, b in zip(*np.nonzero(matrix), strict=True)}
    counts = [line["count"] for line in found["confusions"]]
    assert counts == sorted(counts, reverse=True)


def test_wilson_interval_of_a_known_case():
    outcome = Outcome("pgd", "linf", 0.1, np.arange(10), np.zeros(10), np.arange(10) < 3)
    found = summarise_outcome(outcome)
    assert (found["accuracy"], found["samples"]) == (0.7, 10)
    assert (found["low"], found["high"]) == pytest.approx((0.39678, 0.89221), abs=1e-4)
    for total in (1, 7, 400, 10_000):
        for count in {0, 1, total // 3, total - 1, total}:
            known = scipy.stats.binomtest(count, total).proportion_ci(0.95, "wilson")
            assert wilson_interval(count, total) == pytest.approx((known.low, known.high), abs=1e-14)


def test_limit_draws_the_same_samples_for_everybody(trained, tmp_path):
    small = evaluate(data="digits", weights=trained, eps=0.1, attack="fgsm", limit=50, out=tmp_path / "a")
    again = evaluate(data="digits", weights=trained, eps=0.2, attack="fgsm", limit=50, out=tmp_path / "b")
    assert len(small.clean.index) == 50 and np.array_equal(small.clean.index, again.clean.index)
    other = evaluate(data="digits", weights=trained, eps=0.1, attack="fgsm", limit=50, seed=1, out=tmp_path / "c")
    assert not np.array_equal(small.clean.index, other.clean.index)


def test_it_goes_on_where_it_stopped_and_returns_what_is_there(trained, tmp_path, monkeypatch):
    options = {
        "data": "digits",
        "weights": trained,
        "eps": [0.05, 0.1],
        "attack": ["fgsm", "pgd:steps=3"],
        "out": tmp_path / "e",
    }
    calls = []

    def counted(name, attack, eps, *rest):
        calls.append((name, eps))
        if len(calls) == 3:
            raise RunError("cut off")
        return attack_split(name, attack, eps, *rest)

    monkeypatch.setattr("easycoreset.evaluation.attack_split", counted)
    with pytest.raises(RunError, match="cut off"):
        evaluate(**options)
    first = evaluate(**options)
    assert calls == [("fgsm", 0.05), ("fgsm", 0.1), ("pgd:steps=3", 0.05), ("pgd:steps=3", 0.05), ("pgd:steps=3", 0.1)]
    second = evaluate(**options)
    assert len(calls) == 5 and first.summary() == second.summary()
    with pytest.raises(UsageError, match=r"evaluation\.json.*\beps=\[0\.05, 0\.1\].*\[0\.2\]"):
        evaluate(**{**options, "eps": 0.2})
    evaluate(**{**options, "eps": 0.2, "overwrite": True})
    assert calls[5:] == [("fgsm", 0.2), ("pgd:steps=3", 0.2)]


def test_it_may_write_into_the_model_folder(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "model")
    evaluate(data="digits", weights=folder, attack="fgsm", eps=0.1, out=folder)
    assert json.loads((folder / "run.json").read_text())["command"] == "train"
    train(data="digits", updates=100, out=folder)  # still the finished run


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"attack": "pdg"}, "'pdg'.*'pgd'"),
        ({"attack": ["fgsm", "fgsm"]}, "^attack.*fgsm"),
        ({"eps": 1.5}, r"^eps.*\[0, 1\].*\blinf\b.*\b1\.5\b"),
        ({"eps": [0.1, 0.1]}, r"^eps.*0\.1, 0\.1"),
        ({"eps": "8/0"}, "'8/0'"),
        ({"norm": "l2", "eps": 9}, r"^eps.*\[0, 8\.0\].*\bl2\b.*\b9"),
        ({"limit": 0}, "^limit.* 0$"),
        ({"weights": "nowhere"}, "^weights.*'nowhere'"),
        ({"model": "thin-resnet"}, "^model.*'digits-cnn'.*'thin-resnet'"),
        ({"split": "val"}, "^split.*--val-fraction.*val"),
    ],
)
def test_wrong_use(trained, tmp_path, options, match):
    with pytest.raises(UsageError, match=match):
        evaluate(**{"data": "digits", "weights": trained, "out": tmp_path / "e", **options})
    assert not (tmp_path / "e").exists()


def test_data_of_another_shape_or_number_of_classes_is_refused(trained, tmp_path):
    pixels = np.zeros((20, 8, 8), np.uint8)
    labels = np.arange(20) % 5
    np.savez(tmp_path / "few.npz", x=pixels, y=labels)
    with pytest.raises(UsageError, match=r"^data.*\b10 classes\b.*classes=10.*\b5$"):
        evaluate(data=str(tmp_path / "few.npz"), weights=trained, out=tmp_path / "e")
    np.savez(tmp_path / "wide.npz", x=np.zeros((20, 9, 9), np.uint8), y=labels)
    with pytest.raises(UsageError, match=r"^data.*\(1, 8, 8\).*\(1, 9, 9\)"):
        evaluate(data=str(tmp_path / "wide.npz"), weights=trained, out=tmp_path / "e")


def test_the_samples_that_training_held_out_can_be_evaluated(tmp_path, digits):
    train(data="digits", updates=100, val_fraction=0.3, out=tmp_path / "run")
    last = json.loads((tmp_path / "run" / "history.jsonl").read_text().splitlines()[-1])
    common = {"data": "digits", "weights": tmp_path / "run", "split": "val", "attack": "fgsm", "eps": 0.1}
    result = evaluate(**common, out=tmp_path / "all")
    held_out = hold_out(digits.splits["train"].labels, 0.3)[1]
    assert np.array_equal(result.clean.index, held_out)
    assert 1 - result.clean.broken.mean() == pytest.approx(last["val_clean"])
    few = evaluate(**common, limit=40, out=tmp_path / "few")
    assert len(few.clean.index) == 40 and np.isin(few.clean.index, held_out).all()
    summary = json.loads((tmp_path / "few" / "evaluation.json").read_text())["summary"]
    assert summary["split"] == "val"
    assert not [line for line in summary["checks"] if line["name"] == "trained_on" and not line["passed"]]
    pixels, labels = digits.splits["train"].images.pixels.numpy(), digits.splits["train"].labels
    np.savez(tmp_path / "other.npz", x=pixels[:-1], y=labels[:-1])
    with pytest.raises(UsageError, match="^split.*val.*trained on"):
        evaluate(**common | {"data": str(tmp_path / "other.npz")}, out=tmp_path / "other")


class Wrapped(nn.Module):
    """A bad model around a good one."""

    def __init__(self, good, change):
        super().__init__()
        self.good = good
        self.change = change

    def forward(self, x):
        return self.change(self.good, x)


BAD = {
    "logits_not_probabilities": lambda good, x: good(x).softmax(1),
    "zero_gradient": lambda good, x: good(x) * 1e4,
    "deterministic": lambda good, x: good(x) + 0.1 * torch.randn(len(x), 10),
    "batch_invariance": lambda good, x: good(x).roll(len(x) // 2, 1),
    "finite_gradients": lambda good, x: good(x) + (x.sum((1, 2, 3)) * 0).sqrt()[:, None] * 0,
    "large_eps": lambda good, x: good((x * 2).round() / 2),  # quantised: no gradient at all
    "finite_logits": lambda good, x: good(x).masked_fill(torch.arange(len(x))[:, None] == 0, float("nan")),
}


def refuse():
    raise ValueError("Expected more than 1 value per channel when training")


MORE = {  # the same checks, by other ways to fail them
    "sigmoid output": ("logits_not_probabilities", lambda good, x: good(x).sigmoid()),
    "logits x100": ("zero_gradient", lambda good, x: good(x) * 100),
    "dropout in train mode": ("deterministic", lambda good, x: F.dropout(good(x), 0.5, training=True)),
    "needs more than one sample": ("batch_invariance", lambda good, x: good(x) / (len(x) > 1 or refuse())),
    "no gradient at all": ("input_gradient", lambda good, x: good(x).detach() + 0 * good((x > 0.5).float()).detach()),
    "batch norm in train mode": ("batch_invariance", lambda good, x: (z := good(x)) - z.mean(0)),
}


@pytest.mark.parametrize("name", [*BAD, *MORE])
def test_a_bad_model_is_caught(name, trained, digits):
    check, change = MORE.get(name, (name, BAD.get(name)))
    model = Wrapped(load_model(trained), change)
    split = digits.splits["test"]
    rows = np.arange(359)
    done = check_model_behaviour(model, split, rows, rows[:200], 0)
    done += check_large_eps(model, split, rows[:200], "linf", 0)
    found = {c.name: c for c in done}
    assert not found[check].passed and found[check].message


def test_a_model_that_wants_other_input_is_caught(trained, tmp_path):
    """It was trained on images in 0..255 and is given [0, 1]: it knows nothing, and the warning says what may help."""
    model = load_model(trained)
    model[0].mean *= 255
    model[0].std *= 255
    save_model(tmp_path / "model", model, read_card(trained))
    result = evaluate(data="digits", weights=tmp_path / "model", eps=0.1, attack="fgsm", limit=100, out=tmp_path / "e")
    assert any("--input-mean and --input-std" in warning for warning in result.warnings)


@pytest.mark.parametrize("objective", ["standard", "trades:eps=0.1:steps=5"])
@pytest.mark.slow
def test_good_models_pass_every_check(objective, tmp_path):
    train(data="digits", updates=100, objective=objective, out=tmp_path / "run")
    result = evaluate(
        data="digits", weights=tmp_path / "run", eps=0.1, attack=["pgd", "fgsm", "noise"], out=tmp_path / "run"
    )
    assert result.warnings == [] and len(result.checks) >= 12


@pytest.mark.slow
def test_an_attack_that_is_too_short_or_too_timid_is_found_out(trained, tmp_path):
    """Steps of the wrong scale pass every other check; a longer attack tells, and is not asked where AutoAttack was."""

    def warned(name, attack, eps=(0.1,)):
        result = evaluate(data="digits", weights=trained, eps=eps, attack=attack, limit=100, out=tmp_path / name)
        found = [check for check in result.checks if check.name == "longer_attack"]
        return result, found[0] if found else None

    strong, check = warned("pgd", "pgd")
    assert check.passed and check.figure <= 0.01
    weak, check = warned("timid", "pgd:step_size=0.0005")
    assert not check.passed and [c.name for c in weak.checks if not c.passed] == ["longer_attack"]
    gap = weak.worst[0].accuracy - strong.worst[0].accuracy
    assert gap > 0.05 and check.figure == pytest.approx(gap, abs=0.05)
    assert named(check.message, "100 steps", "margin") and "at eps 0.1" in check.message
    assert not warned("fgsm", "fgsm")[1].passed
    assert warned("nothing", "pgd", (1.0,))[1].passed  # nobody survives: there is nothing to break
    assert warned("noise", ["noise"])[1] is None and warned("auto", ["pgd:steps=1", "autoattack"])[1] is None
    _, check = warned("where", "pgd:step_size=0.0005", (0.0001, 0.1))
    assert "at eps 0.1:" in check.message  # where accuracy is neither clean accuracy nor 0


def test_quick_checks_attack_no_further_and_change_no_figure(trained, tmp_path, monkeypatch):
    options = {"data": "digits", "weights": trained, "eps": 0.1, "attack": "pgd:steps=2", "limit": 40}
    thorough = evaluate(**options, out=tmp_path / "all")
    for name in ("check_large_eps", "check_longer_attack"):
        monkeypatch.setattr(f"easycoreset.evaluation.{name}", None)
    quick = evaluate(**options, checks="quick", out=tmp_path / "quick")
    names = [check.name for check in quick.checks]
    assert {check.name for check in thorough.checks} - set(names) == {"large_eps", "longer_attack"}
    assert names == [check.name for check in thorough.checks if check.name in names]
    tables = [pq.read_table(tmp_path / name / "predictions.parquet") for name in ("all", "quick")]
    assert tables[0].equals(tables[1])
    with pytest.raises(UsageError, match="checks"):  # another evaluation
        evaluate(**options, out=tmp_path / "quick")


def test_classes_that_are_others_than_the_models_are_told(trained, tmp_path, png_folder):
    """As many classes, but not the same ones: figures would be of labels that mean something else."""
    train(data=str(png_folder), image_size=16, updates=2, out=tmp_path / "model")
    options = {"weights": tmp_path / "model", "eps": 0.1, "attack": "noise"}
    same = evaluate(**options, data=str(png_folder), out=tmp_path / "same")
    (png_folder / "class 1").rename(png_folder / "class 7")
    other = evaluate(**options, data=str(png_folder), out=tmp_path / "other")
    told = [next(c for c in result.checks if c.name == "class_names") for result in (same, other)]
    assert told[0].passed and told[1].figure == 2 and named(told[1].message, "2 of", "3 classes")
    assert named(other.warnings[0], "'class 1'", "'class 2'")


def test_batches_of_an_ensemble_are_part_of_the_run(trained, tmp_path):
    """Square draws batch by batch: other batches are another evaluation; for PGD they change nothing."""
    options = {"data": "digits", "weights": trained, "eps": 0.1, "limit": 20, "out": tmp_path / "e"}
    evaluate(**options, attack="square:queries=5", batch_size=20)
    with pytest.raises(UsageError, match="batch_size=20"):
        evaluate(**options, attack="square:queries=5", batch_size=10)
    evaluate(**options | {"out": tmp_path / "p"}, attack="pgd:steps=2", batch_size=20)
    evaluate(**options | {"out": tmp_path / "p"}, attack="pgd:steps=2", batch_size=10)


@pytest.mark.parametrize("attack", ["square", "autoattack"])
def test_images_too_small_for_square_are_found_beforehand(attack, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "tiny.npz", x=rng.random((40, 4, 4)).astype(np.float32), y=np.arange(40) % 4)
    train(data=str(tmp_path / "tiny.npz"), model="digits-cnn", updates=1, out=tmp_path / "run")
    with pytest.raises(UsageError, match=r"square.*\bl2\b.*\b5\b"):
        evaluate(
            data=str(tmp_path / "tiny.npz"),
            weights=tmp_path / "run",
            attack=attack,
            norm="l2",
            eps=0.5,
            out=tmp_path / "e",
        )
    assert not (tmp_path / "e").exists()


def cut_off(monkeypatch, place, calls):
    """Have the function at `place` raise at its `calls`-th call, progress being saved all the time."""
    monkeypatch.setattr("easycoreset.evaluation.attack_run.SAVE_INTERVAL", -1.0)
    monkeypatch.setattr("easycoreset.evaluation.margins.SAVE_INTERVAL", -1.0)
    monkeypatch.setattr("easycoreset.evaluation.attack_run.SAVE_INTERVAL_FACTOR", 0)
    original = getattr(*place)
    seen = []

    def counted(*args, **more):
        seen.append(1)
        if len(seen) == calls:
            raise KeyboardInterrupt
        return original(*args, **more)

    monkeypatch.setattr(*place, counted)
    return seen


def test_margins_and_saved_images_go_on_within_an_attack(trained, tmp_path, monkeypatch):
    options = {
        "data": "digits",
        "weights": trained,
        "eps": 0.1,
        "attack": "pgd:steps=3",
        "batch_size": 50,
        "margins": "fmn:steps=10",
        "save_adversarial": True,
    }
    evaluate(**options, out=tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        cut_off(patch, (attack_run, "check_in_ball"), 4)
        evaluate(**options, out=tmp_path / "cut")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        seen = cut_off(patch, (margins, "perturbation_norms"), 4)
        attacked = cut_off(patch, (attack_run, "check_in_ball"), 100)
        evaluate(**options, out=tmp_path / "cut")
    assert (len(attacked), len(seen)) == (8 - 3, 4)
    with monkeypatch.context() as patch:
        seen = cut_off(patch, (margins, "perturbation_norms"), 100)
        evaluate(**options, out=tmp_path / "cut")
    assert len(seen) == 8 - 3
    assert read_evaluation_files(tmp_path / "cut") == read_evaluation_files(tmp_path / "whole")


def read_evaluation_files(folder):
    adversarial = next((folder / "adversarial").glob("*.safetensors")).read_bytes()
    return adversarial, pq.read_table(folder / "margins.parquet").to_pydict()


def test_a_model_without_gradients_gets_the_margin_attack_too(tmp_path, monkeypatch, trained):
    monkeypatch.setattr(checks, "_zero_gradient", lambda *a: checks.Check("zero_gradient", 0.5, False, "no gradient"))
    result = evaluate(data="digits", weights=trained, eps=0.1, attack="pgd", out=tmp_path / "e")
    assert [o.attack for o in result.attacked] == ["pgd", "pgd:loss=margin"] and "no gradient" in result.warnings


def test_order_of_attacks():
    def outcome(attack, broken):
        flags = np.zeros(1000, bool)
        flags[:broken] = True
        return Outcome(attack, "linf", 0.1, np.arange(1000), flags * 1, flags)

    assert [c.passed for c in check_order([outcome("noise", 10), outcome("fgsm", 300), outcome("pgd", 400)])] == [
        True
    ] * 3
    failed = [c for c in check_order([outcome("noise", 300), outcome("pgd", 200)]) if not c.passed]
    assert len(failed) == 1 and named(failed[0].message, "noise", "10.0%", "pgd")
    assert all(c.passed for c in check_order([outcome("fgsm", 205), outcome("pgd", 200)]))  # half a point is noise


def test_an_attack_that_leaves_the_ball_is_refused():
    x = torch.full((2, 1, 2, 2), 0.5)
    check_in_ball("mine", x + 0.1, x, 0.1, "linf")
    for x_adv, norm in ((x + 0.11, "linf"), (x + 0.06, "l2"), (x * float("nan"), "linf"), (x - 0.6, "linf")):
        eps = 0.7 if float(x_adv.min()) < 0 else 0.1
        with pytest.raises(RunError, match=rf"'mine'.*\b{norm}\b.*\b{eps}\b"):
            check_in_ball("mine", x_adv, x, eps, norm)


def test_logits_that_are_not_finite_end_an_evaluation(digits):
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(()))

        def forward(self, x):
            return torch.full((len(x), 10), float("nan")) + self.w

    with pytest.raises(RunError, match=r"\blogits\b"):
        predict_logits(Broken(), digits.splits["test"], np.arange(10), 5)


def test_a_model_at_chance_is_said_to_be(tmp_path):
    train(data="digits", updates=1, lr=0, out=tmp_path / "run")
    result = evaluate(data="digits", weights=tmp_path / "run", eps=0.1, attack="fgsm", out=tmp_path / "run")
    assert result.clean.accuracy > 0.15 or any(named(text, "largest class") for text in result.warnings)
    constant = Outcome("clean", "", 0.0, np.arange(10), np.zeros(10), np.arange(10) >= 4)
    assert not checks.check_above_chance(constant, np.array([0] * 4 + [1] * 3 + [2] * 3)).passed
    assert checks.check_above_chance(constant, np.arange(10)).passed


def test_attacks_are_checked_before_anything_is_written(trained, tmp_path):
    for attack, match in [
        ("pgd:eps=0.3", r"eps.*0\.3.*0\.1"),
        (["pgd", "pgd:steps=20"], "^attack.*pgd"),
    ]:
        with pytest.raises(UsageError, match=match):
            evaluate(data="digits", weights=trained, attack=attack, eps=0.1, out=tmp_path / "e")
        assert not (tmp_path / "e").exists()
    with pytest.raises(UsageError, match=r"^weights.*model\.safetensors.*--model"):
        evaluate(data="digits", weights=trained / "model.safetensors", eps=0.1, out=tmp_path / "e")


def test_images_asked_for_later_are_made(trained, tmp_path):
    options = {"data": "digits", "weights": trained, "attack": "fgsm", "eps": [0.00101, 0.00102], "out": tmp_path / "e"}
    first = evaluate(**options)
    again = evaluate(**options, save_adversarial=True)
    assert first.summary() == again.summary() and "clean 0." in repr(again)
    assert [p.name for p in sorted((tmp_path / "e" / "adversarial").iterdir())] == [
        "fgsm-linf-0.00101.safetensors",
        "fgsm-linf-0.00102.safetensors",
    ]


def test_more_steps_are_stronger():
    def outcome(attack, broken):
        flags = np.arange(1000) < broken
        return Outcome(attack, "linf", 0.1, np.arange(1000), flags * 1, flags)

    (check,) = check_order([outcome("pgd:steps=50", 200), outcome("pgd", 300)])
    assert not check.passed and named(check.message, "pgd ", "10.0%", "pgd:steps=50")


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_large_images_stay_in_the_ball(norm):
    """Float32 sums over 150,528 pixels drift by more than the tolerance."""
    from easycoreset.attacks import load_attack

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 9, 8), nn.Flatten(), nn.Linear(4 * 27 * 27, 5))
    x = torch.rand(2, 3, 224, 224)
    y = torch.tensor([0, 1])
    for eps in (1.0, 3.0) if norm == "l2" else (0.01, 0.03):
        check_in_ball("pgd", load_attack("pgd:steps=3", norm=norm, eps=eps)[1](model, x, y), x, eps, norm)


def test_saved_images_are_judged_again_and_checked_before_anything_runs(trained, tmp_path):
    common = {"data": "digits", "weights": trained, "limit": 50}
    made = evaluate(**common, eps=0.1, attack="pgd:steps=5", save_adversarial=True, out=tmp_path / "made")
    (file,) = (tmp_path / "made" / "adversarial").iterdir()
    again = evaluate(**common, eps=0.1, attack=f"file:{file}", out=tmp_path / "again")
    assert again.attacked[0].attack == f"file:{file.name}" and np.array_equal(
        made.attacked[0].pred, again.attacked[0].pred
    )
    saved = load_file(file)
    for changes, match in (
        ({"x": saved["x"] + 0.01}, r"\blinf\b.*\b0\.1\b.*\[0, 1\]"),
        ({"x": saved["x"][:9], "index": saved["index"][:9]}, r"attack file:.*bad\.safetensors.*\bsample \d+$"),
        ({"x": saved["x"][..., :4].contiguous()}, r"images.*\(1, 8, 8\).*\(1, 8, 4\)"),
        ({"index": saved["index"].float()}, r"\bindex\b.*\[n\]"),
    ):
        save_file({**saved, **changes}, tmp_path / "bad.safetensors")
        with pytest.raises(UsageError, match=match):
            evaluate(**common, eps=0.1, attack=["pgd", f"file:{tmp_path / 'bad.safetensors'}"], out=tmp_path / "bad")
    with pytest.raises(UsageError, match=r"attack file:nowhere\.safetensors"):
        evaluate(**common, eps=0.1, attack="file:nowhere.safetensors", out=tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_another_batch_size_goes_on_where_the_last_one_stopped(trained, tmp_path, digits):
    """A smaller batch did 40 samples before the kill; a larger one must do the rest, and all of the rest."""
    model = load_model(trained)
    split = digits.splits["test"]
    clean = clean_outcome(predict_logits(model, split, np.arange(200), 50), split, np.arange(200))
    attack = load_attack("pgd:steps=5", eps=0.1)[1]
    options = EvaluateOptions(data="digits", weights=trained, eps=(0.1,), batch_size=200, out=tmp_path / "e")
    whole, _ = attack_split("pgd", attack, 0.1, model, split, clean, options, torch.device("cpu"))
    state = AttackProgress.resume_or_begin(clean, None)
    first = clean.index[~clean.broken][:40]
    state.samples_done = 40
    state.pred[first] = whole.pred[first]
    state.broken_by[first[whole.broken[first]]] = 0
    state.save(tmp_path / "begun.parquet")
    found, _ = attack_split(
        "pgd", attack, 0.1, model, split, clean, options, torch.device("cpu"), tmp_path / "begun.parquet"
    )
    assert np.array_equal(found.broken, whole.broken) and np.array_equal(found.pred, whole.pred)


def test_l2_steps_follow_the_tiny_gradients_of_confident_models(trained, digits):
    batch = next(digits.splits["test"].batches(np.arange(100), 100))
    model = load_model(trained).double()
    x = batch.x.double()
    confident = Wrapped(model, lambda good, x: good(x) * 6)  # gradients of 1e-13 and less, none of them 0
    attack = load_attack("pgd:steps=10", norm="l2", eps=0.7)[1]
    broken = [
        float((m(attack(m, x, batch.y, batch.index)).argmax(1) != batch.y).float().mean()) for m in (model, confident)
    ]
    assert broken[1] > broken[0] - 0.1


def test_margins_stay_and_saved_images_are_completed(trained, tmp_path):
    given = {
        "data": "digits",
        "weights": trained,
        "eps": [0.05, 0.1],
        "attack": "fgsm",
        "limit": 30,
        "out": tmp_path / "e",
    }
    evaluate(**given, margins="fmn:steps=5")
    evaluate(**given, save_adversarial=True)
    assert "margins" in json.loads((tmp_path / "e" / "evaluation.json").read_text())["summary"]
    files = sorted((tmp_path / "e" / "adversarial").iterdir())
    files[1].unlink()
    evaluate(**given, save_adversarial=True)
    assert sorted((tmp_path / "e" / "adversarial").iterdir()) == files
    with pytest.raises(UsageError, match="^margins.*fmn"):
        evaluate(**{**given, "out": tmp_path / "x"}, margins=["fmn", "fmn:steps=100"])


def test_the_margin_attack_that_is_added_is_in_a_grid_once(tmp_path, inline, monkeypatch):
    """Where gradients vanish, each step would attack by the margin loss too."""
    monkeypatch.setattr(checks, "_zero_gradient", lambda *a: checks.Check("zero_gradient", 0.5, False, "no gradient"))
    grid = {"data": "digits", "model": "digits-cnn", "methods": ("random",), "fractions": (0.5,), "updates": (30,)}
    grid |= {"attack": ("pgd:steps=2", "fgsm"), "eps": (0.1,), "strong": ("noise@20",), "controls": ("none",)}
    results = run_comparison(CompareOptions(**grid, seeds="1", limit=40, out=tmp_path / "grid"))
    rows = [(row["cell"], row["attack"], row["eps"]) for row in results.to_pylist()]
    assert len(rows) == len(set(rows))
    report(out=tmp_path / "grid")  # its attacks are on the same images


@pytest.mark.parametrize("attack", ["pgd", "pgd:loss=margin:restarts=2", "pgd:steps=7:loss=targeted", "fgsm"])
def test_climbing_in_bf16_breaks_as_many(attack, trained, tmp_path):
    """Judged in float32: no sample counts as broken that float32 gets right; few outcomes differ from climbing there."""
    broken = {}
    for precision in ("fp32", "bf16"):
        given = {
            "attack": attack,
            "eps": 0.1,
            "attack_precision": precision,
            "checks": "quick",
            "save_adversarial": True,
        }
        found = evaluate(data="digits", weights=trained, out=tmp_path / precision, **given)
        (outcome,) = found.attacked
        broken[precision] = outcome.broken
        (images,) = (tmp_path / precision / "adversarial").glob("*.safetensors")
        with torch.no_grad():
            pred = load_model(trained)(load_file(images)["x"]).argmax(1).numpy()
        np.testing.assert_array_equal(pred, outcome.pred)
    assert 20 < broken["fp32"].sum() < 340
    assert (broken["bf16"] != broken["fp32"]).mean() <= 0.012  # at most four of 359
    assert broken["bf16"].sum() >= broken["fp32"].sum() - 2


def test_the_judge_keeps_what_bf16_found_between_two_judgements():
    """A sample that is broken in one step alone is found, and what only bf16 finds broken is not."""

    class Sign(nn.Module):
        def forward(self, x):
            x = x.flatten(1)
            return torch.cat([x, -x], 1)

    judge = Judge(Bf16Autocast(Sign()))
    y = torch.zeros(3, dtype=torch.int64)
    seen = []
    for step in range(7):
        x = torch.tensor([[1.0], [-1.0 if step == 1 else 1.0], [1.0]])
        says = torch.tensor([[1.0, 0], [0.0 if step == 1 else 1, 0.5], [0.0, 1.0]])  # of the third it is wrong
        seen.append(judge.look(x[:, :, None, None], says, y, last=step == 6))
    assert [found is not None for found in seen] == [False] * 4 + [True, False, True]
    assert seen[4][1].tolist() == [False, True, False] and not seen[6][1].any()
    judge.look(torch.ones(3, 1, 1, 1), torch.tensor([[0.0, 1.0]] * 3), y, last=False)  # suspected, and right in float32
    x_adv, broken = judge.look(-torch.ones(3, 1, 1, 1), torch.tensor([[1.0, 0.0]] * 3), y, last=True)
    assert broken.all() and (x_adv == -1).all()  # which bf16 did not find


def test_attack_precision_is_in_the_record_and_older_records_are_float32s(trained, tmp_path):
    given = {"data": "digits", "weights": trained, "attack": "fgsm", "eps": 0.1, "out": tmp_path}
    evaluate(**given)
    record = json.loads((tmp_path / "evaluation.json").read_text())
    assert record["options"].pop("attack_precision") == "fp32"
    (tmp_path / "evaluation.json").write_text(json.dumps(record))
    evaluate(**given)
    with pytest.raises(UsageError, match="attack_precision"):
        evaluate(**given, attack_precision="bf16")


def test_every_check_is_described_in_words(trained, tmp_path):
    options = {"eps": [0.05], "attack": ["pgd:steps=2", "fgsm"], "checks": "all", "limit": 50}
    result = evaluate(data="digits", weights=trained, **options, out=tmp_path / "e")
    names = {check.name.partition(":")[0] for check in result.checks}
    assert len(names) >= 12 and names <= set(WORDS)
