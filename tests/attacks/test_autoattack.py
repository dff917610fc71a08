"""AutoAttack: the package's own results, at any number of classes, resumed after a kill."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from pyautoattack import AutoAttack as Package
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from torch import nn

from easycoreset import UsageError, evaluate, load_model
from easycoreset.attacks import load_attack
from easycoreset.attacks.autoattack import AutoAttack
from easycoreset.attacks.ball import check_in_ball
from easycoreset.attacks.broken_rows import OpenRowsModel
from easycoreset.evaluation.checks import check_order, expected_strength
from easycoreset.models import build_model
from easycoreset.models.card import ModelCard

SMALL = "autoattack:iterations=10:queries=100"


@pytest.fixture(scope="module")
def batch(digits):
    return next(digits.splits["test"].batches(np.arange(64), 64))


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 0.6)])
def test_it_is_the_package_called_directly(scored, batch, norm, eps):
    model = load_model(scored)
    theirs = Package(model, norm="Linf" if norm == "linf" else "L2", eps=eps, seed=3, device="cpu")
    common = {
        "n_restarts": 1,
        "n_iter": 10,
        "eps": eps,
        "norm": theirs.norm,
        "eot_iter": 1,
        "rho": 0.75,
        "seed": 3,
        "device": "cpu",
        "verbose": False,
    }
    theirs.apgd = APGDAttack(model, **common)
    theirs.apgd_targeted = APGDAttack_targeted(model, **common)
    theirs.fab.n_iter = 10
    theirs.square.n_queries = 100
    expected, _ = theirs.run_standard_evaluation(batch.x, batch.y, batch_size=64)
    found = load_attack(SMALL, norm=norm, eps=eps, seed=3)[1](model, batch.x, batch.y, batch.index)
    with torch.no_grad():
        broken = (model(found).argmax(1) != batch.y) & (model(batch.x).argmax(1) == batch.y)
        assert torch.equal(model(found).argmax(1) == batch.y, model(expected).argmax(1) == batch.y)
    assert torch.equal(found[~broken], expected[~broken]) and 0.1 < broken.float().mean() < 1


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 0.6)])
@pytest.mark.slow
def test_apgd_breaks_the_images_that_the_first_two_attacks_of_the_package_break(scored, batch, norm, eps):
    """As the package's standard version sets them, at its full 100 iterations."""
    model = load_model(scored)
    theirs = Package(model, norm="Linf" if norm == "linf" else "L2", eps=eps, seed=3, device="cpu")
    theirs.attacks_to_run = ["apgd-ce", "apgd-t"]
    expected, _ = theirs.run_standard_evaluation(batch.x, batch.y, batch_size=64)
    found = load_attack("apgd", norm=norm, eps=eps, seed=3)[1](model, batch.x, batch.y, batch.index)
    changed = (found != batch.x).flatten(1).any(1)
    assert torch.equal(changed, (expected != batch.x).flatten(1).any(1)) and 0.1 < changed.float().mean() < 1
    with torch.no_grad():
        assert torch.equal(model(found).argmax(1) == batch.y, model(expected).argmax(1) == batch.y)
    check_in_ball("apgd", found, batch.x, eps, norm)


def test_rows_that_are_broken_pass_the_model_no_more():
    """Of two pixels, the class is that of the larger; the second row is misclassified at its second image."""
    seen = []

    class Recorded(nn.Flatten):
        def forward(self, input):
            seen.append(len(input))
            return super().forward(input)

    model = OpenRowsModel(Recorded(), torch.tensor([0, 0]))
    images = [
        torch.tensor(rows).view(2, 1, 1, 2) for rows in ([[3.0, 1], [3, 1]], [[2.0, 1], [1, 4]], [[1.0, 0], [5, 0]])
    ]
    assert [model(x).tolist() for x in images] == [[[3, 1], [3, 1]], [[2, 1], [1, 4]], [[1, 0], [1, 4]]]
    last = images[2].requires_grad_()
    gradient = torch.autograd.grad(model(last)[:, 0].sum(), last)[0]
    assert seen == [2, 2, 1, 1] and gradient.flatten(1).tolist() == [[1, 0], [0, 0]]
    assert model.first_broken(last).flatten(1).tolist() == [[1, 0], [1, 4]]


def test_where_every_image_is_broken_the_attack_ends_well(batch):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    y = model(batch.x).argmax(1)
    x_adv = load_attack("apgd:iterations=10", norm="linf", eps=0.5)[1](model, batch.x, y)
    assert (model(x_adv).argmax(1) != y).all()


@pytest.mark.parametrize("classes", [2, 3, 5, 10])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_any_number_of_classes(classes, norm):
    torch.manual_seed(classes)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 12), nn.ReLU(), nn.Linear(12, classes)).eval()
    x = torch.rand(20, 1, 6, 6)
    y = model(x).argmax(1)
    attack = AutoAttack(eps=0.3 if norm == "linf" else 1.0, norm=norm, iterations=5, queries=20)
    assert list(attack.stages(classes)) == ["apgd-ce", "apgd-t" if classes >= 4 else "pgd-margin", "fab-t", "square"]
    x_adv = attack(model, x, y, torch.arange(20))
    assert (model(x_adv).argmax(1) != y).any() and 0 <= x_adv.min() <= x_adv.max() <= 1
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_networks_and_images_in_channels_last_layout(norm):
    """As training and evaluation lay out coloured images."""
    torch.manual_seed(0)
    names = tuple("0123456789")
    card = ModelCard(model="thin-resnet", shape=(3, 16, 16), mean=(0.5,) * 3, std=(0.3,) * 3, class_names=names)
    model = build_model(card).eval()
    x = torch.rand(6, 3, 16, 16)
    eps = 0.02 if norm == "linf" else 0.5
    y = model(x).argmax(1)
    attack = load_attack("autoattack:iterations=4:queries=20", norm=norm, eps=eps)[1]
    plain = attack(model, x, y)
    last = torch.channels_last
    found = attack(model.to(memory_format=last), x.contiguous(memory_format=last), y)
    assert (model(found).argmax(1) != y).tolist() == (model(plain).argmax(1) != y).tolist()


def test_images_too_small_for_square_by_l2_are_refused():
    attack = load_attack("square:queries=5", norm="l2", eps=1.0)[1]
    with pytest.raises(UsageError, match=r"square.*l2.*\b5\b"):
        attack(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), torch.rand(2, 1, 4, 4), torch.tensor([0, 1]))


def test_torchs_random_state_is_left_alone(scored, batch):
    model = load_model(scored)
    before = torch.random.get_rng_state()
    load_attack(SMALL, eps=0.1)[1](model, batch.x[:8], batch.y[:8], batch.index[:8])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_evaluation_tells_each_stage(scored, tmp_path):
    given = {"data": "digits", "weights": scored, "eps": [0.08], "limit": 60, "batch_size": 16, "out": tmp_path}
    result = evaluate(**given, attack=[SMALL, "pgd", "square:queries=20"])
    outcome = result.attacked[0]
    assert list(outcome.stages) == ["apgd-ce", "apgd-t", "fab-t", "square"]
    values = list(outcome.stages.values())
    assert values == sorted(values, reverse=True) and values[-1] == pytest.approx(outcome.accuracy)
    assert outcome.accuracy <= result.attacked[1].accuracy + 0.02
    record = json.loads((tmp_path / "evaluation.json").read_text())["summary"]
    assert record["attacked"][0]["stages"] == outcome.stages
    again = evaluate(**given, attack=[SMALL, "pgd", "square:queries=20"])
    assert again.attacked[0].stages == outcome.stages
    assert (
        expected_strength("noise") < expected_strength("square") < expected_strength("pgd") < expected_strength(SMALL)
    )
    assert any(check.name.startswith("order:pgd<autoattack") for check in check_order(result.attacked))


SLOW = """
import time
from easycoreset import evaluation
from easycoreset.evaluation import attack_run
attack_run.SAVE_INTERVAL = 0.0
inside = attack_run.check_in_ball
def slowly(*given):
    print(given[0], flush=True)
    time.sleep(0.15)
    inside(*given)
attack_run.check_in_ball = slowly
evaluation.evaluate(data="digits", weights={weights!r}, attack=["autoattack:iterations=5:queries=30"], eps=[0.05], limit=80,
                    batch_size=16, out={out!r})
"""


@pytest.mark.slow
def test_a_killed_evaluation_goes_on_to_the_same_result(scored, tmp_path):
    given = {
        "data": "digits",
        "weights": scored,
        "attack": ["autoattack:iterations=5:queries=30"],
        "eps": [0.05],
        "limit": 80,
    }
    whole = evaluate(**given, batch_size=16, out=tmp_path / "whole")
    started: list[int] = []
    for kill_after in (3, 4, 5, None):
        code = SLOW.format(weights=str(scored), out=str(tmp_path / "killed"))
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        lines = []
        for line in process.stdout:
            lines.append(line)
            if kill_after is not None and len(lines) == kill_after:
                time.sleep(0.05)
                os.kill(process.pid, signal.SIGKILL)
                break
        process.wait()
        process.stdout.close()
        started.append(len(lines))
    tables = [pq.read_table(tmp_path / name / "predictions.parquet") for name in ("whole", "killed")]
    assert tables[0].equals(tables[1])
    summaries = [
        json.loads((tmp_path / name / "evaluation.json").read_text())["summary"] for name in ("whole", "killed")
    ]
    assert summaries[0] == summaries[1] and summaries[0]["attacked"][0]["stages"] == whole.attacked[0].stages
    batches = sum(
        -(-round(80 * share) // 16) for share in [whole.clean.accuracy, *list(whole.attacked[0].stages.values())[:-1]]
    )
    assert sum(started) <= batches + 3  # each kill cost at most the batch it fell into
