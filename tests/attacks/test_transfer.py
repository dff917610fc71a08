"""Images made on another model."""

import json

import numpy as np
import pytest
import torch
from grids import SMALL, record, stamps

from easycoreset import UsageError, evaluate, load_model, report, train
from easycoreset import attack as ec_attack
from easycoreset.attacks import load_attack
from easycoreset.attacks.ball import l2_norms
from easycoreset.parquet import read_table
from support.messages import named


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Another model of the same data."""
    folder = tmp_path_factory.mktemp("other") / "model"
    train(data="digits", epochs=6, seed=5, out=folder)
    return folder


@pytest.fixture(scope="module")
def batch(digits):
    return next(digits.splits["test"].batches(np.arange(120), 120))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_knows_the_other_model_alone(norm, scored, other, batch):
    eps = {"linf": 0.15, "l2": 1.0}[norm]
    name, attack = load_attack(f"transfer:from={other}", eps=eps, norm=norm)
    assert name == f"transfer:from={other}"

    def never(x):
        raise AssertionError("the attacked model was asked")

    never.training = False
    x_adv = attack(never, batch.x, batch.y, batch.index)
    delta = (x_adv - batch.x).double()
    size = delta.flatten(1).abs().amax(1) if norm == "linf" else l2_norms(delta)
    assert size.max() <= eps + 1e-6 and x_adv.min() >= 0 and x_adv.max() <= 1
    parts = torch.cat([attack(never, batch.x[s], batch.y[s], batch.index[s]) for s in (slice(0, 50), slice(50, 120))])
    torch.testing.assert_close(parts, x_adv, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        wrong = {folder: (load_model(folder)(x_adv).argmax(1) != batch.y).float().mean() for folder in (scored, other)}
    assert wrong[other] > wrong[scored] > 0.1  # it breaks its own model most
    random_points = load_attack("noise:draws=1", eps=eps, norm=norm)[1](
        load_model(scored), batch.x, batch.y, batch.index
    )
    with torch.no_grad():
        assert wrong[scored] > (load_model(scored)(random_points).argmax(1) != batch.y).float().mean()


def test_it_stands_beside_white_box_attacks(scored, other, tmp_path):
    given = {"data": "digits", "weights": scored, "eps": [0.1], "limit": 100}
    result = evaluate(**given, attack=[f"transfer:from={other}", "pgd"], out=tmp_path / "e")
    transfer, pgd = result.attacked
    assert result.clean.accuracy >= transfer.accuracy > pgd.accuracy
    assert not [check for check in result.checks if "order" in check.name and not check.passed]
    names = set(read_table(tmp_path / "e" / "predictions.parquet", {})["attack"].to_pylist())
    assert f"transfer:from={other}" in names
    again = evaluate(**given, attack=[f"transfer:from={other}", "pgd"], out=tmp_path / "e")
    assert again.attacked[0].accuracy == transfer.accuracy
    train(data="digits", epochs=1, seed=6, out=other, overwrite=True)
    with pytest.raises(UsageError, match="attack_files"):  # another model is in its place
        evaluate(**given, attack=[f"transfer:from={other}", "pgd"], out=tmp_path / "e")


def test_the_other_model_may_be_given_beside_the_attack(scored, other, tmp_path):
    given = {"data": "digits", "weights": scored, "eps": [0.1], "limit": 100}
    beside = evaluate(**given, attack="transfer", surrogate=other, out=tmp_path / "beside")
    named_by = evaluate(**given, attack=f"transfer:from={other}", surrogate=scored, out=tmp_path / "named")
    as_module = evaluate(**given, attack="transfer", surrogate=load_model(other), out=tmp_path / "module")
    outcomes = [result.attacked[0].broken.tolist() for result in (beside, named_by, as_module)]
    assert outcomes[0] == outcomes[1] == outcomes[2] and any(outcomes[0])
    assert beside.attacked[0].attack == "transfer"  # the same row whatever the folder
    with pytest.raises(UsageError, match="attack_files"):
        evaluate(**given, attack="transfer", surrogate=scored, out=tmp_path / "beside")
    with pytest.raises(UsageError, match="needs another model"):
        ec_attack(load_model(scored), torch.zeros(2, 1, 8, 8), torch.zeros(2, dtype=torch.long), "transfer")


def test_in_a_grid_the_model_of_all_data_of_the_seed_before_attacks(tmp_path, cli, inline):
    line = [value if value != "random,easycore" else "random,middle:by=aign" for value in SMALL]
    ran = cli("compare", *line, "--strong", "transfer:steps=2@10", "--out", tmp_path / "grid")
    assert ran.code == 0, ran.err
    plan = record(tmp_path / "grid")
    models = {(cell["method"], cell["seed"]): cell["steps"]["train"] for cell in plan["cells"]}
    assert len(models) == 6  # nothing more is trained
    for cell in plan["cells"]:
        key = next(entry["key"] for entry in cell["evaluations"] if entry["attack"] == "transfer:steps=2")
        step = json.loads((tmp_path / "grid" / "steps" / f"evaluate-{key}" / "step.json").read_text())
        assert step["inputs"]["surrogate"] == models["full", 1 - cell["seed"]]
        assert step["inputs"]["weights"] == cell["steps"]["train"]
    rows = read_table(tmp_path / "grid" / "results.parquet", {}).to_pylist()
    assert sum(row["attack"] == "transfer:steps=2" and row["samples"] == 10 for row in rows) == 6
    assert "transfer" in report(out=tmp_path / "grid").path.read_text()
    before = stamps(tmp_path / "grid")
    line[line.index("--seeds") + 1] = "3"
    ran = cli("compare", *line, "--strong", "transfer:steps=2@10", "--out", tmp_path / "grid")
    assert ran.code == 0, ran.err
    after = stamps(tmp_path / "grid")
    assert {name: after[name] for name in before} == before
    counts = [
        sum(e["attack"].startswith("transfer") for e in c["evaluations"]) for c in record(tmp_path / "grid")["cells"]
    ]
    assert counts == [1] * 9  # a further seed leaves those of the others as they are
    run = cli("run", "digits", "--attack", "transfer", "--out", tmp_path / "run")
    assert run.code == 2 and named(run.err, "attack", "from=DIR"), run.err


def test_a_users_model_attacks_and_is_not_pruned(tmp_path, cli, inline, monkeypatch):
    number = abs(hash(str(tmp_path))) % 10**9
    (tmp_path / f"nets{number}.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    line = [value if value != "random,easycore" else "random,middle:by=aign" for value in SMALL]
    line = [f"nets{number}:make" if value == "digits-cnn" else value for value in line]
    line[line.index("--fractions") + 1] = "0.2,0.4"
    line[line.index("--controls") + 1] = "none"  # so that the other model is no cell
    line[line.index("--seeds") + 1] = "1"
    given = (*line, "--strong", "transfer:steps=2@10", "--out", tmp_path / "grid")
    ran = cli("compare", *given)
    assert ran.code == 0, ran.err
    cells = record(tmp_path / "grid")["cells"]
    others = {entry["surrogate"] for cell in cells for entry in cell["evaluations"] if "surrogate" in entry}
    assert len(cells) == 4 and len(others) == 1  # of every method and fraction
    before = stamps(tmp_path / "grid")
    assert cli("compare", *given, "--prune").code == 0 and stamps(tmp_path / "grid") == before
    assert f"train-{others.pop()}" in before


def test_wrong_use(scored, tmp_path):
    given = {"data": "digits", "weights": scored, "eps": [0.1], "out": tmp_path / "e"}
    for attack, words in (
        ("transfer", ("transfer needs another model", "from=DIR", "surrogate=DIR")),
        (f"transfer:from={tmp_path / 'none'}", ("from", "trained model", "none")),
        (f"transfer:from={scored}:steps=0", ("steps",)),
    ):
        with pytest.raises(UsageError) as raised:
            evaluate(**given, attack=attack)
        assert named(str(raised.value), *words), raised.value
    with pytest.raises(UsageError, match="^surrogate.*transfer"):
        evaluate(**given, attack="fgsm", surrogate=scored)
    rng = np.random.default_rng(0)
    large = (rng.integers(0, 255, (60, 12, 12, 3), np.uint8), np.arange(60) % 3)
    train(data=(large, large), model="thin-resnet", updates=1, out=tmp_path / "large")
    with pytest.raises(UsageError, match=r"transfer from a model that takes images of shape \(1, 8, 8\)"):
        evaluate(**given, attack=f"transfer:from={tmp_path / 'large'}")
    assert not (tmp_path / "e").exists()
    few = (rng.integers(0, 255, (60, 8, 8, 1), np.uint8), np.arange(60) % 3)
    train(data=(few, few), model="digits-cnn", updates=1, out=tmp_path / "few")
    with pytest.raises(UsageError, match="of these classes"):
        evaluate(**given, attack=f"transfer:from={tmp_path / 'few'}")
