"""Training by dynamic methods: the rows that are trained on, the losses that decide, weights, and resuming."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from easycoreset import Coreset, UsageError, train
from easycoreset.data import open_source
from easycoreset.dynamic import DYNAMIC_METHODS, LOSS, EpochState, canonical_method, load_dynamic_method
from easycoreset.errors import RunError
from easycoreset.hardness.exact import measure_all
from easycoreset.models.digits_cnn import digits_cnn
from easycoreset.models.modes import frozen
from easycoreset.objectives import OBJECTIVES, Adversarial, load_objective
from easycoreset.options import TrainOptions
from easycoreset.selection import load_selector
from easycoreset.training import fresh_model, prepare
from easycoreset.training.dynamic_requirements import make_loss_recorder
from easycoreset.training.dynamic_sampling import DynamicSampling
from easycoreset.training.loop import fit
from easycoreset.training.passes import ModelPasses

WITHOUT_EPS = ("standard", "noise")  # objectives
FAST = {
    "rs2": 0.3,
    "infobatch": None,
    "reselect:method=craig:every=2": 0.3,
    "acs-craig:every=2:warm=0.3": 0.3,
    "acs-gradmatch:unit=row:every=2:warm=0.3": 0.3,
    "easiest-now:every=2": 0.3,
    "self-paced:every=2": None,
    "seta": None,
}


def summary(folder):
    return json.loads((folder / "run.json").read_text())["summary"]


def history(folder):
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [{**line, "seconds": 0, "selection_seconds": 0} for line in lines]


def test_fast_names_every_method():
    assert [spec.partition(":")[0] for spec in FAST] == list(DYNAMIC_METHODS)


def few_passes(objective, seed=0, n=30, **more):
    """Passes over some digits with a fresh network."""
    torch.manual_seed(seed)
    model = digits_cnn(1, 10)
    split = open_source("digits").splits["train"]
    rows = np.arange(n)
    passes = ModelPasses(model, lambda: split.batches(rows, 8), split.labels[:n], objective, seed=seed, epoch=1, **more)
    return model, split, rows, passes


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_are_those_of_autograd_at_the_last_layer(name):
    """The gradient of each sample's loss, differentiated through the layer's own weights and bias."""
    objective = load_objective(name if name in WITHOUT_EPS else f"{name}:eps=0.1")[1]
    model, split, rows, passes = few_passes(objective)
    terms = passes.gradients().terms
    assert len(terms) == {"trades": 2, "mart": 2}.get(name, 1)
    found = sum(np.einsum("nc,nd->ncd", t.error, t.inputs) for t in terms)
    last = next(module for module in reversed(list(model.modules())) if isinstance(module, nn.Linear))
    model.eval()
    for batch in split.batches(rows, 8):
        x_adv = batch.x
        if isinstance(objective, Adversarial):
            with frozen(model):
                x_adv = objective.perturb(model, batch.x, batch.y, passes._generator(batch))
        losses = objective.logit_losses(model(batch.x), model(x_adv), batch.y)
        for position, index in enumerate(batch.index.tolist()):
            weight, bias = torch.autograd.grad(losses[position], [last.weight, last.bias], retain_graph=True)
            expected = torch.cat([weight, bias[:, None]], 1).numpy()
            np.testing.assert_allclose(found[index], expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max() + 1e-7)


def test_trades_gradient_is_the_published_formula():
    """(p - 1_y) x (h, 1) + beta [p o (log p - log p' - KL)] x (h, 1) + beta (p' - p) x (h', 1)."""
    objective = load_objective("trades:eps=0.1:beta=4")[1]
    model, split, rows, passes = few_passes(objective)
    clean, adversarial = passes.gradients().terms
    for batch in split.batches(rows, 8):
        with frozen(model), torch.no_grad():
            x_adv = objective.perturb(model, batch.x, batch.y, passes._generator(batch))
            log_p, log_q = F.log_softmax(model(batch.x), 1), F.log_softmax(model(x_adv), 1)
        p, q = log_p.exp(), log_q.exp()
        kl = (p * (log_p - log_q)).sum(1, keepdim=True)
        error = p - F.one_hot(batch.y, 10) + 4 * p * (log_p - log_q - kl)
        np.testing.assert_allclose(clean.error[batch.index], error, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(adversarial.error[batch.index], 4 * (q - p), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_pass_gives_the_objectives_losses(name):
    objective = load_objective(name if name in WITHOUT_EPS else f"{name}:eps=0.1")[1]
    told = {}
    model, split, rows, passes = few_passes(objective, on_refresh=told.__setitem__)
    found = passes.refresh(LOSS, clean=False)
    clean = passes.refresh(LOSS, clean=True)
    assert passes.count == 2 and passes.forward >= 2 and model.training
    np.testing.assert_array_equal(told[LOSS], found)  # clean losses are no present values of the objective's
    with frozen(model):
        for batch in split.batches(rows, 8):
            with torch.no_grad():
                losses = objective(model, batch.x, batch.y, passes._generator(batch))
                expected = F.cross_entropy(model(batch.x), batch.y, reduction="none")
            np.testing.assert_allclose(found[batch.index], losses, rtol=1e-5)
            np.testing.assert_allclose(clean[batch.index], expected, rtol=1e-5)
    steps = getattr(objective, "steps", 0 if name in WITHOUT_EPS else 1)
    assert passes.forward >= 2 + steps


def test_a_pass_gives_what_static_methods_read():
    objective = load_objective("pgd-at:eps=0.1")[1]
    model, split, rows, passes = few_passes(objective)
    table = passes.table(load_selector("easycore")[1])
    from easycoreset.hardness import load_hardness

    expected = measure_all(model, lambda: split.batches(rows, 8), 30, load_hardness(["aign"]))["aign"]
    np.testing.assert_allclose(table["aign"], expected, rtol=1e-6)
    for method in ("craig", "craig:gradients=adversarial", "glister", "kcenter", "d2", "easiest:aign_l1_squared"):
        selector = load_selector(method)[1]
        assert len(selector(passes.table(selector), 10, 0)) == 10
    for method in ("uncertainty", "vog"):
        with pytest.raises(UsageError, match=method):
            passes.table(load_selector(method)[1])


def train_few(folder, method, fraction=None, **more):
    options = {"data": "digits", "epochs": 4, "batch_size": 128, "out": folder, "method": method, "fraction": fraction}
    return train(**(options | more))


@pytest.mark.parametrize("method", FAST)
def test_every_method_trains_under_every_kind_of_objective(method, tmp_path):
    for objective in ("standard", "trades:steps=2:eps=0.1"):
        folder = tmp_path / objective[:6]
        train_few(folder, method, FAST[method], objective=objective)
        sampling = summary(folder)["sampling"]
        lines = history(folder)
        assert len(lines) == 4 and sum(sampling["times_trained"].values()) == 1438
        trained = sum(int(times) * count for times, count in sampling["times_trained"].items())
        assert trained == 128 * lines[-1]["updates"] and trained > 0
        assert sampling["mean_share"] == pytest.approx(np.mean([line["share"] for line in lines]))
        assert np.isfinite(sampling["present_loss_of_all"]) and sampling["method"] == canonical_method(method)


def test_rs2_trains_on_what_full_trains_on_up_to_the_order(tmp_path):
    """Two epochs of half of the data are one of all: the same samples, as often, for as many updates."""
    train_few(tmp_path / "rs2", "rs2", 0.5, batch_size=719, epochs=None, updates=6)
    assert summary(tmp_path / "rs2")["sampling"]["times_trained"] == {"3": 1438}
    train(data="digits", updates=6, batch_size=719, out=tmp_path / "full")
    both = [summary(tmp_path / name) for name in ("rs2", "full")]
    assert [(s["updates"], s["samples"]) for s in both] == [(6, 1438), (6, 1438)]
    assert [len(history(tmp_path / name)) for name in ("rs2", "full")] == [6, 3]


def test_rows_that_make_no_batch_come_first_in_the_next_epoch(tmp_path):
    """575 rows an epoch are 4 batches of 128 and 63 rows, and then 4 and 126, and then 5 and 61: none is forgotten."""
    train_few(tmp_path / "run", "rs2", 0.4, epochs=None, updates=1438 * 4 // 128)
    lines = history(tmp_path / "run")
    assert [line["updates"] for line in lines[:4]] == [4, 8, 13, 17]
    times = summary(tmp_path / "run")["sampling"]["times_trained"]
    assert set(times) <= {"3", "4", "5", "6", "7"}  # 3.3 passes, in which 287 of 1438 come twice


def test_a_choice_smaller_than_a_batch_is_one_step(tmp_path):
    train_few(tmp_path / "run", "rs2", 0.01, epochs=3)
    assert [line["updates"] for line in history(tmp_path / "run")] == [1, 2, 3]


def options_of(tmp_path, **more):
    return TrainOptions(**({"data": "digits", "updates": 6, "batch_size": 128, "out": tmp_path / "run"} | more))


def test_acs_that_never_reselects_is_training_on_its_first_choice(tmp_path):
    """Bit for bit training on the coreset, with its weights, that CRAIG chooses by the gradients of the fresh model."""
    common = {"objective": "trades:steps=2:eps=0.1", "seed": 3}
    count = 384 / 1438  # three full batches: nothing is left over
    options = options_of(tmp_path, method="acs-craig:unit=row:every=1000:warm=0", fraction=count, **common)
    setup = prepare(options, epochs=None, updates=6)
    model = fresh_model(setup)
    pool = setup.train_indices
    passes = ModelPasses(
        model,
        lambda: setup.split.batches(pool, 128),
        setup.split.labels,
        setup.objective,
        seed=3,
        epoch=1,
    )
    state = EpochState(
        labels=setup.split.labels,
        fraction=count,
        seed=3,
        epoch=1,
        progress=0.0,
        batch_size=128,
        present={},
        passes=passes,
    )
    choice = load_dynamic_method("acs-craig:unit=row:warm=0")[1](state)
    order = Coreset.from_order(choice.rows, state.without_scores(), choice.weight)
    import dataclasses

    split = setup.split
    coreset = dataclasses.replace(
        order, sample_ids=split.sample_ids, provenance={"fingerprint": split.fingerprint, "split": "train"}
    )
    coreset.write(tmp_path / "coreset.parquet")
    train(**vars(options))
    train(
        data="digits",
        updates=6,
        batch_size=128,
        coreset=tmp_path / "coreset.parquet",
        out=tmp_path / "static",
        **common,
    )
    weights = [load_file(folder / "model.safetensors") for folder in (tmp_path / "run", tmp_path / "static")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert summary(tmp_path / "run")["sampling"]["weights"][1] > 1.5


@pytest.mark.parametrize(
    "objective",
    ["standard", "noise:sigma=1e-9", *(f"{name}:eps=0" for name in OBJECTIVES if name not in WITHOUT_EPS)],
)
def test_weights_reach_the_loss_of_every_objective(objective, tmp_path):
    """Weights of 2 and 0 train as the losses of the first half alone, twice: the step is sum(w l) / B.

    At eps 0 and without noise, since random starts belong to a row's place in its batch.
    """
    weights = {}
    for name, method in (("halves", "support.dynamic:halves"), ("zeros", "support.dynamic:first_half_twice")):
        train_few(
            tmp_path / name, method, None, objective=objective, epochs=None, updates=2, model="support.dynamic:plain"
        )
        weights[name] = load_file(tmp_path / name / "model.safetensors")
    for name, value in weights["halves"].items():
        torch.testing.assert_close(value, weights["zeros"][name], rtol=1e-4, atol=1e-6)
    train_few(
        tmp_path / "all",
        "support.dynamic:everything",
        None,
        objective=objective,
        epochs=None,
        updates=2,
        model="support.dynamic:plain",
    )
    other = load_file(tmp_path / "all" / "model.safetensors")
    assert any(not torch.allclose(other[name], value, rtol=1e-3) for name, value in weights["halves"].items())


def test_easiest_now_does_not_lock_in_to_its_first_draw(tmp_path):
    """With a pass each epoch the choice follows the model, within classes: it moves on to other samples."""
    train_few(tmp_path / "run", "easiest-now:per_class=true", 0.3, epochs=12, lr=0.05)
    assert summary(tmp_path / "run")["sampling"]["distinct_samples"] > 1.4 * 0.3 * 1438


def test_validation_rows_are_never_chosen(tmp_path):
    train_few(tmp_path / "run", "rs2:replace=true", 0.5, epochs=8, val_fraction=0.2)
    facts = summary(tmp_path / "run")
    assert sum(facts["sampling"]["times_trained"].values()) == facts["samples"] == 1151
    assert {"val_clean", "val_robust"} <= set(history(tmp_path / "run")[-1])


def interrupted_setup(tmp_path, method, fraction):
    options = options_of(tmp_path, method=method, fraction=fraction, updates=25, objective="trades:steps=1:eps=0.1")
    setup = prepare(options, epochs=None, updates=25)
    return setup, fresh_model(setup)


@pytest.mark.parametrize("method", FAST)
@pytest.mark.slow
def test_a_checkpoint_in_mid_epoch_goes_on_bit_for_bit(method, tmp_path, monkeypatch):
    """Stopped in the middle of the second epoch with a new process's objects, then equal to the undisturbed run."""

    class StoppedError(Exception):
        pass

    def run(folder, stop_after=None):
        setup, model = interrupted_setup(tmp_path, method, FAST[method])
        sampling = DynamicSampling(setup, make_loss_recorder(setup, model))
        lines = []
        updates = 0
        folder.mkdir(exist_ok=True)
        from easycoreset.training.loop import _Training

        original = _Training._update

        def update(self, *arguments):
            nonlocal updates
            updates += 1
            if stop_after is not None and updates > stop_after:
                self.save()
                raise StoppedError
            return original(self, *arguments)

        monkeypatch.setattr(_Training, "_update", update)
        try:
            for _ in fit(setup, model, recorder=sampling.recorder, sampling=sampling, folder=folder, history=lines):
                pass
        except StoppedError:
            return None
        finally:
            monkeypatch.setattr(_Training, "_update", original)
        state = {name: value.clone() for name, value in model.state_dict().items()}
        return state, lines, sampling.summary(lines)

    assert run(tmp_path / "stopped", stop_after=14) is None
    state, lines, facts = run(tmp_path / "stopped")
    expected, expected_lines, expected_facts = run(tmp_path / "whole")
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    timeless = [
        [{k: v for k, v in line.items() if "seconds" not in k} for line in ls] for ls in (lines, expected_lines)
    ]
    assert timeless[0] == timeless[1]
    for name in ("selection_seconds",):
        facts.pop(name), expected_facts.pop(name)
    assert facts == expected_facts


def test_bad_input_is_found_before_training(tmp_path):
    (tmp_path / "c.parquet").write_bytes(b"")
    for options, name in (
        ({"method": "rs2", "fraction": 0.5, "coreset": tmp_path / "c.parquet"}, "method"),
        ({"fraction": 0.5}, "fraction"),
        ({"method": "infobatch", "fraction": 0.5}, "fraction"),
        ({"method": "rs2"}, "fraction"),
        ({"method": "rs2", "fraction": 1.5}, "fraction"),
        ({"method": "reselect:method=uncertainty", "fraction": 0.5}, "uncertainty"),
        ({"method": "reselect:method=vog", "fraction": 0.5}, "vog"),
        ({"method": "reselect:method=easiest/by=aign_online", "fraction": 0.5}, "aign_online"),
        ({"method": "reselect:method=craig", "fraction": 0.5, "model": "support.dynamic:no_linear"}, "linear|Linear"),
        ({"method": "acs-craig", "fraction": 0.5, "model": "support.dynamic:no_linear"}, "linear|Linear"),
        ({"method": "acs-craig", "fraction": 0.5, "objective": "support.dynamic:other_loss"}, "logit_losses"),
        ({"method": "easiest-now:by=aign_online", "fraction": 0.5, "objective": "trades"}, "aign_online"),
        ({"method": "easiest-now:by=aign", "fraction": 0.5}, "aign_online"),
        ({"method": "easiest-now:by=nothing_online", "fraction": 0.5}, "nothing"),
        ({"method": "easiest-now:by=forgetting_online", "fraction": 0.5}, "forgetting"),
        ({"method": "easiest-now:by=grad_norm_online", "fraction": 0.5}, "recorded column"),
        ({"method": "easiest-now:by=tdds_online", "fraction": 0.5}, "recorded column"),
        ({"method": "support.dynamic:static"}, "one argument"),
        ({"method": "support.dynamic:raises"}, "mistake of mine"),
        ({"method": "support.dynamic:outside"}, "rows"),
        ({"method": "support.dynamic:none"}, "rows"),
        ({"method": "support.dynamic:bad_weights"}, "weights"),
    ):
        with pytest.raises(UsageError, match=name):
            train(**({"data": "digits", "epochs": 2, "out": tmp_path / "run", "overwrite": True} | options))
        assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_users_method_that_fails_later_is_no_wrong_use(tmp_path):
    with pytest.raises(RunError, match="rows"):
        train_few(tmp_path / "run", "support.dynamic:outside_later")


def test_a_column_of_the_recorder_decides(tmp_path):
    train_few(tmp_path / "run", "easiest-now:by=aign_online:every=2", 0.3)
    assert summary(tmp_path / "run")["sampling"]["selection_passes"] == 2


KILLED = [
    sys.executable,
    "-m",
    "easycoreset",
    "train",
    "--data",
    "digits",
    "--model",
    "thin-resnet",
    "--batch-size",
    "8",
]
KILLED += ["--augment", "crop-flip", "--checkpoint-minutes", "0.0005", "--quiet"]


@pytest.mark.slow
@pytest.mark.parametrize("method", FAST)
def test_killed_at_random_moments(method, tmp_path):
    """Real processes, three kills each, some in mid-epoch: weights, histories and counts of the undisturbed run."""
    rng = random.Random(method)
    options = ["--method", method, "--updates", "250"]
    options += [] if FAST[method] is None else ["--fraction", str(FAST[method])]

    def start(folder):
        return subprocess.Popen([*KILLED, *options, "--out", folder], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    killed = tmp_path / "killed"
    middle = 0
    for number in range(3):
        process = start(killed)
        before = position(killed)
        while position(killed) <= before or not (killed / "checkpoint.pt").exists():
            assert process.poll() is None, process.stderr.read().decode()
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.5))
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, f"kill {number} came too late"
        process.stderr.close()
        middle += position(killed)[1] > 0
    for process in [start(folder) for folder in (killed, tmp_path / "whole")]:
        assert process.wait() == 0, process.stderr.read().decode()
        process.stderr.close()
    assert middle >= 1
    assert history(killed) == history(tmp_path / "whole")
    assert (killed / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()
    facts = [summary(folder)["sampling"] | {"selection_seconds": 0} for folder in (killed, tmp_path / "whole")]
    assert facts[0] == facts[1]


def position(folder):
    """(epoch, step) of the checkpoint; (0, 0) before the first."""
    if not (folder / "checkpoint.pt").exists():
        return 0, 0
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    return state["epoch"], state["step"]
