"""Measures that must be asked for: each against its definition, written out plainly."""

import dataclasses
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from easycoreset import HardnessRecorder, Scores, UsageError, load_model, score
from easycoreset.data.keyed_random import keyed_uniform
from easycoreset.hardness import load_hardness
from easycoreset.hardness.exact import input_gradient_norms, measure_all, measure_on_device
from easycoreset.models.digits_cnn import digits_cnn
from easycoreset.models.saved import load_weights
from easycoreset.tables.merging import standardise
from support.messages import named

N = 30


@pytest.fixture
def split(digits):
    return digits.splits["train"]


def fresh(seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    model = digits_cnn(1, 10).to(dtype)
    model(torch.rand(64, 1, 8, 8, dtype=dtype))  # running statistics of batch norm
    return model.eval()


def measured(spec, model, split, **more):
    measures = load_hardness([spec])
    rows = np.arange(N)
    found = measure_all(model, lambda: split.batches(rows, 8), N, measures, **more)
    return found[measures[0].name]


def test_curvature_is_the_mean_change_of_the_gradient(split):
    model = fresh()
    batch = next(split.batches(np.arange(N), N))
    x = batch.x.double()
    y = batch.y

    def gradient(x):
        x = x.clone().requires_grad_()
        return torch.stack(
            [torch.autograd.grad(F.cross_entropy(model(x[i : i + 1]), y[i : i + 1]), x)[0][i] for i in range(len(x))]
        )

    expected = torch.zeros(N, dtype=torch.float64)
    for draw in range(10):
        signs = torch.where(keyed_uniform(batch.index, x.shape[1:], "curvature", 7, 3, draw) < 0.5, -1.0, 1.0).double()
        expected += (gradient(x + 1e-3 * signs) - gradient(x)).flatten(1).norm(dim=1) / 10
    found = measured("curvature:dtype=float64", model, split, epoch=3, seed=7)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert not np.allclose(found, measured("curvature:dtype=float64", model, split, epoch=4, seed=7), rtol=1e-3)


def test_curvature_of_a_linear_loss_is_zero_and_of_a_known_one_known(split):
    """The gradient of a softmax-linear model changes by W^T (p(x + s v) - p(x))."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double().eval()
    batch = next(split.batches(np.arange(N), N))
    weight = model[1].weight.detach()
    x = batch.x.double()
    expected = torch.zeros(N, dtype=torch.float64)
    for draw in range(2):
        v = torch.where(keyed_uniform(batch.index, x.shape[1:], "curvature", 0, 1, draw) < 0.5, -1.0, 1.0).double()
        change = model(x + 1e-3 * v).softmax(1) - model(x).softmax(1)
        expected += (change @ weight).norm(dim=1).detach() / 2
    np.testing.assert_allclose(measured("curvature:draws=2:dtype=float64", model, split), expected, rtol=1e-5)
    with torch.no_grad():
        model[1].weight.zero_()
    assert (measured("curvature:dtype=float64", model, split) == 0).all()


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_grand_full_is_the_norm_over_all_parameters_that_require_a_gradient(split, chunk):
    model = fresh(dtype=torch.float32)
    model[0].weight.requires_grad_(False)
    batch = next(split.batches(np.arange(N), N))
    own = [p for p in model.parameters() if p.requires_grad]
    expected = []
    for i in range(N):
        loss = F.cross_entropy(model(batch.x[i : i + 1]), batch.y[i : i + 1])
        expected.append(sum(g.square().sum() for g in torch.autograd.grad(loss, own)).sqrt().item())
    np.testing.assert_allclose(measured(f"grand_full:chunk={chunk}", model, split), expected, rtol=1e-4)
    assert not model[0].weight.requires_grad and all(p.grad is None for p in model.parameters())


def test_grand_full_is_grand_for_a_softmax_linear_model(split):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    np.testing.assert_allclose(measured("grand_full", model, split), measured("grand", model, split), rtol=1e-4)


def test_grand_full_of_a_model_that_torch_func_does_not_take(split):
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(64, 10)

        def forward(self, x):
            return self.linear(x.flatten(1)) * (2.0 if x.sum() > 3 else 1.0)

    with pytest.raises(UsageError, match=r"grand_full.*torch\.func"):
        measured("grand_full", Branching(), split)


def test_vog_by_running_moments_equals_the_stored_stack(split):
    models = [fresh(seed, torch.float32) for seed in range(4)]
    rows = np.arange(5, 5 + N)
    found = measure_vog(models, lambda: split.batches(rows, 7), rows)
    stack = []
    for model in models:
        batch = next(split.batches(rows, N))
        x = batch.x.clone().requires_grad_()
        stack.append(torch.autograd.grad(model(x)[torch.arange(N), batch.y].sum(), x)[0].flatten(1).numpy())
    expected = np.std(np.stack(stack).astype(np.float64), axis=0).mean(1)
    assert np.abs(found - expected).max() <= 1e-5 * expected.max()
    y = split.labels[rows]
    for k in np.unique(y):
        own = expected[y == k]
        z = (own - own.mean()) / own.std() if own.std() else np.zeros(len(own))
        np.testing.assert_allclose(standardise(found, y)[y == k], z, rtol=1e-3, atol=1e-3)


def measure_vog(models, batches, rows):
    """`vog_raw` of some rows."""
    (measure,) = load_hardness(["vog"])
    fold = measure.fold()
    row_of = torch.zeros(int(rows.max()) + 1, dtype=torch.int64)
    row_of[rows] = torch.arange(len(rows))
    for model in models:
        fold.add(measure_on_device(model, batches, len(rows), [measure], row_of=row_of)[measure.column])
    return fold.result()


class TwoGradients(nn.Module):
    """Logit of class 0 is w . x."""

    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w))

    def forward(self, x):
        return torch.stack([x.flatten(1) @ self.w, torch.zeros(len(x))], 1)


def test_toy_value_of_vog(tmp_path):
    """Two epochs of gradients (0, 0) and (2, 6): deviations 1 and 3, raw 2."""
    from easycoreset.data import Batch

    batch = Batch(torch.tensor([0]), torch.rand(1, 1, 1, 2), torch.tensor([0]))
    models = [TwoGradients([0.0, 0.0]), TwoGradients([2.0, 6.0])]
    assert measure_vog(models, lambda: [batch], np.array([0])) == pytest.approx(2)
    assert standardise(np.array([2.0], np.float32), np.array([0])).tolist() == [0]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("opt-in") / "run"
    scores = score(data="digits", epochs=3, hardness=["cheap", "vog", "curvature:draws=2", "grand_full"], out=folder)
    return folder, scores


def test_one_run_gives_all_of_them(run, digits):
    folder, scores = run
    cheap = [measure.name for measure in load_hardness(())]
    assert list(scores.columns)[: len(cheap)] == cheap and {"vog", "vog_raw", "curvature", "grand_full"} <= set(
        scores.columns
    )
    assert all(np.isfinite(values).all() for values in scores.columns.values())
    import pyarrow.dataset as ds

    columns = ds.dataset(folder / "trajectory").to_table().column_names
    assert {"curvature", "grand_full"} <= set(columns) and not {"vog", "vog_raw"} & set(columns)
    split = digits.splits["train"]
    models = []
    for epoch in (1, 2, 3):
        model = load_model(folder)
        load_weights(model, folder / "checkpoints" / f"{epoch:04d}" / "model.safetensors")
        models.append(model)
    rows = np.arange(40)
    expected = measure_vog(models, lambda: split.batches(rows, 40), rows)
    np.testing.assert_allclose(scores["vog_raw"][:40], expected, rtol=1e-4)
    np.testing.assert_allclose(scores["vog"], standardise(scores["vog_raw"], split.labels), rtol=1e-6)
    norms = np.mean([input_gradient_norms(m, *vars_of(split, rows)).numpy() for m in models], axis=0)
    np.testing.assert_allclose(scores["aign"][:40], norms, rtol=1e-4, atol=1e-7)


def vars_of(split, rows):
    batch = next(split.batches(rows, len(rows)))
    return batch.x, batch.y


def test_prices_are_said_beforehand_and_kept_weights_go_where_nobody_wants_them(tmp_path, cli):
    ran = cli(
        "score",
        "--data",
        "digits",
        "--epochs",
        2,
        "--hardness",
        "vog,curvature,grand_full,boundary:steps=2",
        "--out",
        tmp_path / "run",
        "--no-keep-checkpoints",
    )
    assert ran.code == 0, ran.err
    for said in (
        ("vog", "2 passes"),
        ("curvature", "10 more"),
        ("grand_full", "gradient"),
        ("boundary", "2"),
    ):
        assert named(ran.err, *said)
    assert not (tmp_path / "run" / "checkpoints").exists() and not list((tmp_path / "run").glob(".unfinished*"))
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["summary"]["columns"] == ["curvature", "grand_full", "boundary", "vog_raw", "vog"]


def test_another_split_has_its_own_standardisation(run, digits):
    folder, _ = run
    test = score(
        data="digits", epochs=3, hardness=["cheap", "vog", "curvature:draws=2", "grand_full"], split="test", out=folder
    )
    labels = digits.splits["test"].labels
    for k in range(10):
        own = test["vog"][labels == k]
        assert abs(own.mean()) < 1e-4 and own.std() == pytest.approx(1, rel=1e-3)


def test_a_sweep_that_was_cut_off_goes_on(tmp_path, monkeypatch):
    from easycoreset.scoring import passes

    options = {"data": "digits", "epochs": 2, "hardness": "vog"}
    whole = score(**options, out=tmp_path / "whole")
    monkeypatch.setattr(passes, "WIDE_MEMORY", 20 * 64 * 500)  # three parts of the 1,438
    original = passes.measure_on_device
    calls = []

    def counted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:  # the first epoch of the second part
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(passes, "measure_on_device", counted)
    with pytest.raises(KeyboardInterrupt):
        score(**options, out=tmp_path / "cut")
    again = score(**options, out=tmp_path / "cut")
    assert len(calls) == 3 + 2 * 2
    np.testing.assert_allclose(again["vog_raw"], whole["vog_raw"], rtol=1e-6)
    assert dataclasses.is_dataclass(again)


def test_options_of_a_measure_make_another_run(tmp_path):
    score(data="digits", epochs=1, hardness="curvature:draws=1", out=tmp_path / "run")
    with pytest.raises(UsageError, match=r"hardness=\['curvature:draws=1'\].*\['curvature:draws=1:step=0\.1'\]"):
        score(data="digits", epochs=1, hardness="curvature:draws=1:step=0.1", out=tmp_path / "run")


def test_a_sweep_goes_on_in_other_parts_and_after_its_table_was_not_written(tmp_path, monkeypatch):
    """As another number of processes would cut them; the weights stay until the run is finished."""
    from easycoreset.scoring import passes

    options = {"data": "digits", "epochs": 2, "hardness": "vog", "keep_checkpoints": False}
    whole = score(**options, out=tmp_path / "whole")
    assert (whole.n_obs == 2).all()
    monkeypatch.setattr(passes, "WIDE_MEMORY", 20 * 64 * 400)
    original = passes.measure_on_device
    calls = []

    def counted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:  # the first epoch of the second part
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(passes, "measure_on_device", counted)
    with pytest.raises(KeyboardInterrupt):
        score(**options, out=tmp_path / "cut")
    monkeypatch.setattr(passes, "WIDE_MEMORY", 20 * 64 * 1000)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Scores, "write", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        score(**options, out=tmp_path / "cut")
    again = score(**options, out=tmp_path / "cut")
    np.testing.assert_allclose(again["vog_raw"], whole["vog_raw"], rtol=1e-6)
    assert not (tmp_path / "cut" / "checkpoints").exists() and not list((tmp_path / "cut").glob(".unfinished*"))


def test_vog_is_of_no_training_step():
    for specs in (["vog"], ["aign", "vog"]):
        with pytest.raises(UsageError, match="online.*'vog'"):
            HardnessRecorder(4, hardness=specs)
