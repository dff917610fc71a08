"""The recorder in foreign loops: equal to the exact pass where the two must agree, and clear errors where it is misused."""

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from easycoreset import (
    Coreset,
    EasycoresetWarning,
    HardnessRecorder,
    Scores,
    UsageError,
    choose,
    input_gradient_norms,
    with_index,
)
from easycoreset.data import Batch
from easycoreset.errors import RunError
from easycoreset.hardness import load_hardness
from easycoreset.hardness.exact import measure_all
from easycoreset.models.digits_cnn import digits_cnn
from easycoreset.models.normalize import Normalize

N = 103


@pytest.fixture
def images(digits):
    batch = next(digits.splits["train"].batches(np.arange(N), N))
    return batch.x.contiguous(), batch.y


@pytest.fixture
def model():
    torch.manual_seed(0)
    return digits_cnn(1, 10).eval()


def loop(model, recorder, loader, reduction, scale=1.0, accumulate=1):
    """A plain training loop, as users write it, at learning rate 0."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    for step, (x, y, index) in enumerate(loader):
        x = recorder.watch(x, index, scale=scale / accumulate)
        losses = F.cross_entropy(model(x), y, reduction="none")
        loss = {"mean": losses.mean, "sum": losses.sum, "none": losses.sum}[reduction]()
        if step % accumulate == 0:
            optimizer.zero_grad()
        (loss * scale / accumulate).backward()
        if step % accumulate == accumulate - 1:
            optimizer.step()
    recorder.end_epoch()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("scale", "accumulate"), [(1.0, 1), (1024.0, 1), (1.0, 2)])
def test_equals_the_exact_pass_where_the_two_must_agree(images, model, reduction, scale, accumulate):
    x, y = images
    expected = input_gradient_norms(model, x, y)
    loader = DataLoader(
        with_index(TensorDataset(x, y)), batch_size=8, shuffle=True
    )  # 103 = 12 * 8 + 7: short last batch
    recorder = HardnessRecorder(N, reduction=reduction)
    for _ in range(2):
        loop(model, recorder, loader, reduction, scale, accumulate)
    scores = recorder.scores(labels=y)
    np.testing.assert_allclose(scores["aign_online"], expected, rtol=2e-5, atol=1e-6)
    assert (scores.n_obs == 2).all()


def test_drop_last_changes_no_observed_score(images, model):
    x, y = images
    expected = input_gradient_norms(model, x, y).numpy()
    recorder = HardnessRecorder(N)
    loop(model, recorder, DataLoader(with_index(TensorDataset(x, y)), batch_size=8, drop_last=True), "mean")
    scores = recorder.scores()
    seen = scores.n_obs == 1
    assert seen.sum() == 96 and np.isnan(scores["aign_online"][~seen]).all() and (scores.n_obs[~seen] == 0).all()
    np.testing.assert_allclose(scores["aign_online"][seen], expected[seen], rtol=2e-5, atol=1e-6)
    chosen = choose(scores, method="easycore", fraction=0.9)
    assert chosen.keep[seen].sum() == len(chosen) == 93  # a sample that was never observed is never easiest


def test_a_sample_seen_twice_in_an_epoch_counts_once():
    recorder = HardnessRecorder(2, reduction="sum")
    for factors in ([1.0, 3.0], [10.0, 10.0]):
        x = recorder.watch(torch.ones(2, 1, 1, 1), torch.tensor([0, 0]))
        (x.flatten() * torch.tensor(factors)).sum().backward()
        recorder.end_epoch()
    scores = recorder.scores()
    assert scores["aign_online"][0] == pytest.approx((2 + 10) / 2)
    assert scores.n_obs.tolist() == [2, 0]


def test_gradients_that_are_not_finite_are_counted_and_left_out():
    recorder = HardnessRecorder(3, reduction="sum")
    for value in (float("inf"), 2.0):
        x = recorder.watch(torch.ones(2, 1, 1, 1), torch.tensor([0, 1]))
        (x.flatten() * torch.tensor([value, 1.0])).sum().backward()
        recorder.end_epoch()
    scores = recorder.scores()
    assert recorder.nonfinite == {"aign_online": 1}
    assert scores["aign_online"][:2].tolist() == [2, 1] and scores.n_obs.tolist() == [1, 2, 0]


def test_other_losses_have_another_column_and_variants_theirs():
    recorder = HardnessRecorder(2, loss="trades", hardness=["aign", "aign:norm=l1:squared=true"])
    assert recorder.columns == ["grad_norm_online", "grad_norm_l1_squared_online"]
    x = recorder.watch(torch.ones(1, 1, 1, 2), torch.tensor([1]), scale=2.0)
    (x * torch.tensor([6.0, 8.0])).sum().backward()
    recorder.end_epoch()
    scores = recorder.scores()
    assert scores["grad_norm_online"][1] == pytest.approx(5)
    assert scores["grad_norm_l1_squared_online"][1] == pytest.approx(49)


def test_every_and_first_leave_other_epochs_alone():
    recorder = HardnessRecorder(1, reduction="sum", every=2, first=5)
    watched = []
    for epoch in range(1, 8):
        x = recorder.watch(torch.ones(1, 1, 1, 1), torch.tensor([0]))
        watched.append(x.requires_grad)
        if x.requires_grad:
            (x * epoch).sum().backward()
        recorder.end_epoch()
    assert watched == [False, True, False, True, False, False, False]
    assert recorder.scores()["aign_online"].tolist() == [3]


def test_state_survives_a_checkpoint(images, model, tmp_path):
    x, y = images
    loader = DataLoader(with_index(TensorDataset(x, y)), batch_size=10)
    whole = HardnessRecorder(N)
    first = HardnessRecorder(N)
    second = HardnessRecorder(N)
    for recorder in (whole, whole, first):
        loop(model, recorder, loader, "mean")
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    loop(model, second, loader, "mean")
    np.testing.assert_array_equal(whole.scores()["aign_online"], second.scores()["aign_online"])
    with pytest.raises(UsageError, match=rf"state\b.*\bnum_samples\b.*\b{N}\b.*\b{N + 1}$"):
        HardnessRecorder(N + 1).load_state_dict(first.state_dict())


def test_works_on_an_input_that_is_not_a_leaf(images, model):
    x, y = images
    scale = torch.ones((), requires_grad=True)
    recorder = HardnessRecorder(N, reduction="sum")
    watched = recorder.watch(x * scale, torch.arange(N))
    F.cross_entropy(model(watched), y, reduction="sum").backward()
    recorder.end_epoch()
    assert scale.grad is not None  # the loop's own graph stays whole
    np.testing.assert_allclose(
        recorder.scores()["aign_online"], input_gradient_norms(model, x, y), rtol=2e-5, atol=1e-6
    )


def test_one_leaf_may_be_watched_in_every_step(images, model):
    x, y = images
    leaf = x.clone().requires_grad_()
    recorder = HardnessRecorder(N, reduction="sum")
    for _ in range(3):
        F.cross_entropy(model(recorder.watch(leaf, torch.arange(N))), y, reduction="sum").backward()
        recorder.end_epoch()
    np.testing.assert_allclose(
        recorder.scores()["aign_online"], input_gradient_norms(model, x, y), rtol=2e-5, atol=1e-6
    )


def test_misuse_is_named():
    recorder = HardnessRecorder(4)
    x = torch.rand(2, 1, 2, 2)
    for bad, match in [
        ((torch.ones(2, 1, dtype=torch.uint8), [0, 1]), r"\bx\b.*\buint8$"),
        ((x, [0]), r"^watch: index\b.*\[2\]"),
        ((x, [0.0, 1.0]), r"^watch: index\b.*\[2\]"),
        ((x, [0, 4]), r"\bindex\b.*\b0\.\.3\b.*\b0\.\.4$"),
        ((x, [-1, 0]), r"\bindex\b.*\b0\.\.3\b.* -1\.\.0$"),
    ]:
        with pytest.raises(UsageError, match=match):
            recorder.watch(bad[0], torch.tensor(bad[1]))
    for scale in (0, float("inf"), -1):
        with pytest.raises(UsageError, match=f"^scale.*{scale}$"):
            recorder.watch(x, torch.tensor([0, 1]), scale=scale)
    with pytest.raises(UsageError, match=r"\bx\b.*\[B, \.\.\.\].*\(2,\)"):
        recorder.watch(torch.rand(2), torch.tensor([0, 1]))
    with pytest.raises(UsageError, match="watch.*observe.*end_epoch"):
        recorder.scores()
    watched = recorder.watch(x, torch.tensor([0, 1]))
    loss = watched.square().sum()
    loss.backward(retain_graph=True)
    with pytest.raises(UsageError, match=r"^watch\b.*\bbackward\b"):
        loss.backward()
    recorder.end_epoch()
    with pytest.raises(UsageError, match=r"^labels\b"):
        recorder.scores(labels=[0.0, 1.0, 2.0, 3.0])
    with pytest.raises(UsageError, match=r"labels.*\bnum_samples=4\b.*\b3\b"):
        recorder.scores(labels=[0, 1, 2])
    with pytest.raises(UsageError, match="reduction.*'average'"):
        HardnessRecorder(4, reduction="average")
    for spec in ("boundary", "aign:dtype=float64"):
        with pytest.raises(UsageError, match=r"online.*\bfloat32\b.*'"):
            HardnessRecorder(4, hardness=[spec])


def test_with_index_of_any_sample():
    dataset = with_index([("a", 1), ("b", 2)])
    assert (len(dataset), dataset[0], with_index(["a"])[0]) == (2, ("a", 1, 0), ("a", 0))


def test_compiled_model(images, model):
    x, y = images
    compiled = torch.compile(model, backend="aot_eager")
    recorder = HardnessRecorder(N, reduction="sum")
    F.cross_entropy(compiled(recorder.watch(x, torch.arange(N))), y, reduction="sum").backward()
    recorder.end_epoch()
    np.testing.assert_allclose(
        recorder.scores()["aign_online"], input_gradient_norms(model, x, y), rtol=1e-4, atol=1e-6
    )


def test_channels_last_input(images, model):
    x, y = images
    x = x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
    colour = nn.Sequential(nn.Conv2d(3, 1, 1), model)
    recorder = HardnessRecorder(N, reduction="sum")
    F.cross_entropy(colour(recorder.watch(x, torch.arange(N))), y, reduction="sum").backward()
    recorder.end_epoch()
    np.testing.assert_allclose(
        recorder.scores()["aign_online"], input_gradient_norms(colour, x, y), rtol=2e-5, atol=1e-6
    )


def full_loop(model, recorder, loader, features=None):
    """Watch and observe, at learning rate 0."""
    for x, y, index in loader:
        x = recorder.watch(x, index)
        logits = model(x)
        recorder.observe(logits, y, index, None if features is None else features(x))
        F.cross_entropy(logits, y).backward()
    recorder.end_epoch()


def test_every_cheap_measure_equals_the_exact_pass(images, model):
    x, y = images
    loader = DataLoader(with_index(TensorDataset(x, y)), batch_size=8, shuffle=True)
    recorder = HardnessRecorder(N)
    for _ in range(3):
        full_loop(model, recorder, loader, features=model[:-1])
    scores = recorder.scores(labels=y)
    measures = load_hardness(())
    batch = Batch(torch.arange(N), x, y)
    columns = measure_all(model, lambda: [batch], N, measures)
    names = [*(measure.name for measure in measures), "objective_loss"]
    assert list(scores.columns) == recorder.columns == [f"{name}_online" for name in names]
    np.testing.assert_array_equal(scores["objective_loss_online"], scores["loss_online"])  # plain cross-entropy
    for measure in measures:
        fold = measure.fold()
        for _ in range(3):
            fold.add(columns[measure.column])
        np.testing.assert_allclose(
            scores[f"{measure.name}_online"], fold.result(), rtol=1e-4, atol=1e-6, err_msg=measure.name
        )


def test_without_features_there_is_no_grand_and_without_watch_no_aign(images, model):
    x, y = images
    recorder = HardnessRecorder(N)
    recorder.observe(model(x), y, torch.arange(N))
    recorder.end_epoch()
    scores = recorder.scores(labels=y)
    assert not {"aign_online", "grand_online"} & set(scores.columns) and "el2n_online" in scores.columns
    assert (scores.n_obs == 1).all()


def test_a_sample_seen_twice_keeps_whether_it_was_right_first():
    """`correct` and `p_y` take the first value of an epoch, the others the mean, within a batch and across batches."""
    y = torch.tensor([0, 0])
    for batches in ([([3.0, 0.0], 0), ([0.0, 3.0], 0)], [([3.0, 0.0], 0), ([0.0, 3.0], 1)]):
        recorder = HardnessRecorder(1, hardness=["forgetting", "loss", "uncertainty"])
        for number in sorted({b for _, b in batches}):
            logits = torch.tensor([values for values, b in batches if b == number])
            recorder.observe(logits, y[: len(logits)], torch.zeros(len(logits), dtype=torch.int64))
        recorder.end_epoch()
        last = recorder.last_epoch()
        assert last["correct_online"][0] == 1
        assert last["p_y_online"][0] == pytest.approx(float(torch.tensor([3.0, 0.0]).softmax(0)[0]))
        both = torch.stack([torch.tensor([3.0, 0.0]), torch.tensor([0.0, 3.0])])
        assert last["loss_online"][0] == pytest.approx(float(F.cross_entropy(both, y)))


def test_present_values_are_those_of_the_last_epoch_that_saw_the_sample():
    recorder = HardnessRecorder(4, loss="mine", hardness=["objective_loss"])
    assert recorder.columns == ["objective_loss_online"]
    assert np.isnan(recorder.latest("objective_loss_online")).all()
    assert (recorder.age("objective_loss_online") == -1).all()
    for rows, values in (([0, 1, 1], [1.0, 2.0, 4.0]), ([1, 2], [7.0, float("inf")]), ([3], [5.0])):
        recorder.observe_losses(torch.tensor(values), torch.tensor(rows))
        recorder.end_epoch()
    np.testing.assert_array_equal(recorder.latest("objective_loss_online"), [1, 7, np.nan, 5])
    assert recorder.age("objective_loss_online").tolist() == [2, 1, -1, 0]
    assert recorder.nonfinite == {"objective_loss_online": 1}
    np.testing.assert_array_equal(recorder.scores()["objective_loss_online"], [1, 5, np.nan, 5])  # means of epochs
    recorder.set_latest("objective_loss_online", np.array([np.nan, 0, 9, np.nan], np.float32))
    np.testing.assert_array_equal(recorder.latest("objective_loss_online"), [1, 0, 9, 5])
    again = HardnessRecorder(4, loss="mine", hardness=["objective_loss"])
    again.load_state_dict(pickle.loads(pickle.dumps(recorder.state_dict())))
    np.testing.assert_array_equal(again.latest("objective_loss_online"), [1, 0, 9, 5])
    assert again.age("objective_loss_online").tolist() == [2, 0, 0, 0]
    for wrong in (lambda: recorder.latest("aum_online"), lambda: recorder.set_latest("aum_online", np.zeros(4))):
        with pytest.raises(UsageError, match="aum_online"):
            wrong()
    with pytest.raises(UsageError, match="observe_losses"):
        recorder.observe_losses(torch.tensor(0.5), torch.tensor([0]))


def test_misuse_of_observe_is_named(model, images):
    x, y = images
    logits = model(x)
    index = torch.arange(N)
    recorder = HardnessRecorder(N)
    for bad, match in [
        ((logits[:, 0], y, index), r"^observe: logits\b.*\[B, classes\]"),
        ((logits, torch.rand(N, 10), index), r"^observe: y\b.*Mixup"),
        ((logits, F.one_hot(y, 10), index), r"^observe: y\b.*Mixup"),
        ((logits, y.float(), index), r"^observe: y\b.*Mixup"),
        ((logits, y, index + 1), r"^observe: index\b.*\b0\.\.102\b.*\b1\.\.103$"),
        ((logits, y, index[:5]), rf"^observe: index\b.*\[{N}\]"),
    ]:
        with pytest.raises(UsageError, match=match):
            recorder.observe(*bad)
    with pytest.raises(UsageError, match="watch.*observe.*end_epoch"):
        recorder.scores()


@pytest.mark.parametrize(
    ("declared", "scale", "loss"),
    [
        ("mean", 1.0, lambda z, y: F.cross_entropy(z, y, reduction="sum")),
        ("sum", 1.0, F.cross_entropy),
        ("mean", 1.0, lambda z, y: F.cross_entropy(z, y) * 1024),
        ("mean", 1.0, lambda z, y: F.cross_entropy(z, y) / 4),
        ("mean", 1.0, lambda z, y: F.cross_entropy(z, y, label_smoothing=0.3)),
    ],
)
def test_a_loss_that_is_not_reduced_as_declared_is_refused(images, model, declared, scale, loss):
    x, y = images
    recorder = HardnessRecorder(N, reduction=declared)
    logits = model(recorder.watch(x, torch.arange(N), scale=scale))
    recorder.observe(logits, y, torch.arange(N))
    with pytest.raises(UsageError, match=rf"reduction='{declared}'.*\bscale={scale:g}\b.*\bloss=NAME\b"):
        loss(logits, y).backward()


def test_inputs_that_the_loader_normalised_are_brought_to_pixel_space(images, model):
    x, y = images
    mean = 0.3
    std = 0.25
    whole = nn.Sequential(Normalize((mean,), (std,)), model).eval()
    expected = input_gradient_norms(whole, x, y)
    recorder = HardnessRecorder(N, reduction="sum", input_std=[std], hardness=["aign", "aign:space=model"])
    F.cross_entropy(model(recorder.watch((x - mean) / std, torch.arange(N))), y, reduction="sum").backward()
    recorder.end_epoch()
    scores = recorder.scores()
    np.testing.assert_allclose(scores["aign_online"], expected, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(scores["aign_model_online"], expected * std, rtol=2e-5, atol=1e-6)
    with pytest.raises(UsageError, match=r"^input_std\b.*> 0.*\[0\.0\]$"):
        HardnessRecorder(N, input_std=[0.0])


def test_a_loop_with_grad_scaler_checkpointed_activations_and_an_attack_inside(images, model):
    from torch.utils.checkpoint import checkpoint

    x, y = images
    expected = input_gradient_norms(model, x, y)
    recorder = HardnessRecorder(N)
    scaler = torch.amp.GradScaler("cpu", init_scale=512.0)
    for rows in torch.arange(N).split(20):
        x_adv = x[rows].clone().requires_grad_()
        F.cross_entropy(model(x_adv), y[rows]).backward()  # an attack that goes backward by itself, before watch
        watched = recorder.watch(x[rows], rows, scale=scaler.get_scale())
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(x_adv), y[rows]), x_adv)
        assert gradient.isfinite().all()
        logits = checkpoint(lambda inputs: model[5:](model[:5](inputs)), watched, use_reentrant=False)
        recorder.observe(logits, y[rows], rows)
        scaler.scale(F.cross_entropy(logits, y[rows])).backward()
    recorder.end_epoch()
    np.testing.assert_allclose(recorder.scores()["aign_online"], expected, rtol=2e-5, atol=1e-6)


def test_in_place_watches_the_very_tensor(images, model):
    x, y = images
    recorder = HardnessRecorder(N, reduction="sum")
    own = x.clone()
    assert recorder.watch(own, torch.arange(N), in_place=True) is own
    F.cross_entropy(model(own), y, reduction="sum").backward()
    recorder.end_epoch()
    np.testing.assert_allclose(
        recorder.scores()["aign_online"], input_gradient_norms(model, x, y), rtol=2e-5, atol=1e-6
    )


def test_a_loss_that_is_nan_within_an_epoch_is_counted_and_left_out(images, model):
    x, y = images
    recorder = HardnessRecorder(N)
    for rows in torch.arange(N).split(20):
        logits = model(recorder.watch(x[rows], rows)) * (float("nan") if rows[0] == 20 else 1.0)
        recorder.observe(logits, y[rows], rows)
        F.cross_entropy(logits, y[rows]).backward()
    recorder.end_epoch()
    scores = recorder.scores(labels=y)
    assert (
        recorder.nonfinite["aign_online"]
        == recorder.nonfinite["loss_online"]
        == recorder.nonfinite["correct_online"]
        == 20
    )
    lost = np.isin(np.arange(N), np.arange(20, 40))
    for name in ("aign_online", "loss_online", "forgetting_online"):
        assert np.isnan(scores[name][lost]).all() and np.isfinite(scores[name][~lost]).all()
    assert (scores.n_obs == ~lost).all()


def test_the_whole_state_survives_a_checkpoint_within_an_epoch(images, model, tmp_path):
    x, y = images
    whole, first, second = (HardnessRecorder(N) for _ in range(3))

    def part(recorder, rows):
        logits = model(recorder.watch(x[rows], rows))
        recorder.observe(logits, y[rows], rows, model[:-1](x[rows]))
        F.cross_entropy(logits, y[rows]).backward()

    for recorder in (whole, first):
        part(recorder, torch.arange(N))
        recorder.end_epoch()
        part(recorder, torch.arange(50))
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for recorder in (whole, second):
        part(recorder, torch.arange(50, N))
        recorder.end_epoch()
    a = whole.scores(labels=y)
    b = second.scores(labels=y)
    assert list(a.columns) == list(b.columns) and len(a.columns) == 11 and (b.n_obs == 2).all()
    for name, values in a.columns.items():
        np.testing.assert_array_equal(values, b[name])


def test_normalisations_of_another_number_of_channels_are_refused(images):
    x, _ = images
    for name in ("input_std", "model_std"):
        with pytest.raises(UsageError, match=f"{name}.*1 or 1 "):
            HardnessRecorder(N, **{name: [1.0, 2.0, 3.0]}).watch(x, torch.arange(N))


def test_a_state_in_memory_stays_as_it_was(images, model):
    x, y = images
    recorder = HardnessRecorder(N)
    recorder.observe(model(x), y, torch.arange(N))
    state = recorder.state_dict()
    recorder.end_epoch()
    again = HardnessRecorder(N)
    again.load_state_dict(state)
    again.end_epoch()
    np.testing.assert_array_equal(again.scores()["loss_online"], recorder.scores()["loss_online"])


@pytest.mark.parametrize("spoilt", [{"weight": torch.tensor([2.5] * 5 + [1.0] * 5)}, {"label_smoothing": 0.05}])
def test_weights_and_smoothing_are_no_plain_cross_entropy(images, model, spoilt):
    x, y = images
    recorder = HardnessRecorder(N)
    index = torch.arange(N)
    logits = model(recorder.watch(x, index))
    recorder.observe(logits, y, index)
    with pytest.raises(UsageError, match="cross-entropy.*reduction='mean'"):
        F.cross_entropy(logits, y, **spoilt).backward()


def test_scores_that_were_taken_stay_as_they_were(images, model):
    x, y = images
    recorder = HardnessRecorder(N, hardness=["entropy", "prob_gap"])
    index = torch.arange(N)
    taken = []
    for factor in (1.0, 3.0):
        recorder.observe(model(x) * factor, y, index)
        recorder.end_epoch()
        taken.append(recorder.scores(labels=y))
    fresh = HardnessRecorder(N, hardness=["entropy", "prob_gap"])
    fresh.observe(model(x), y, index)
    fresh.end_epoch()
    for name in ("entropy_online", "prob_gap_online"):
        np.testing.assert_array_equal(taken[0][name], fresh.scores(labels=y)[name])
        assert not np.array_equal(taken[0][name], taken[1][name])


def test_a_look_at_validation_data_is_not_recorded(images, model):
    x, y = images
    recorder = HardnessRecorder(N)
    index = torch.arange(N)
    recorder.observe(model(x), y, index)
    with torch.no_grad():
        recorder.observe(torch.zeros(N, 10), y, index)
    recorder.end_epoch()
    loss = F.cross_entropy(model(x), y, reduction="none").detach()
    np.testing.assert_allclose(recorder.scores(labels=y)["loss_online"], loss, rtol=1e-5)


def test_watching_in_vain_is_a_warning(images, model):
    x, y = images
    recorder = HardnessRecorder(N)
    recorder.watch(x, torch.arange(N))
    F.cross_entropy(model(x), y).backward()  # not what `watch` returned
    with pytest.warns(EasycoresetWarning, match=r"watch.*\bgradient\b"):
        recorder.end_epoch()


@pytest.mark.parametrize("other", [{"input_std": [0.5]}, {"reduction": "sum"}, {"every": 2}, {"loss": "kl"}])
def test_a_state_of_another_recorder_is_refused_whole(other):
    recorder = HardnessRecorder(N, **other)
    mine = HardnessRecorder(N)
    before = repr(mine.state_dict())
    with pytest.raises(UsageError, match=f"state.*\\b{next(iter(other))}\\b"):
        mine.load_state_dict(recorder.state_dict())
    assert repr(mine.state_dict()) == before and repr(mine).startswith(
        f"HardnessRecorder of {N} samples, epoch 1: aign"
    )


def test_a_coreset_yields_the_indices_of_the_whole(images):
    x, y = images
    data = TensorDataset(x, y)
    view = Coreset.from_order(np.array([70, 3, 50]), _table(y)).apply(data)
    assert sorted(index for _, _, index in (with_index(view)[k] for k in range(3))) == [3, 50, 70]
    with pytest.raises(UsageError, match=r"\bdata\b.*map-style"):
        with_index(iter([1]))


def _table(y):
    return Scores(
        sample_ids=[str(k) for k in range(len(y))],
        labels=y.numpy(),
        class_names=[str(k) for k in range(10)],
        n_obs=np.ones(len(y), np.int32),
        columns={"aign": np.arange(len(y), dtype=np.float32)},
    )


def test_input_gradient_norms_never_calls_what_it_cannot_see_easy(images, model):
    x, y = images
    with torch.inference_mode(), pytest.raises(UsageError, match=r"torch\.inference_mode"):
        input_gradient_norms(model, x, y)
    with pytest.raises(UsageError, match=r"input_gradient_norms.*\bgradient\b.*no_grad"):
        input_gradient_norms(Blocked(model), x, y)
    spoilt = x.clone()
    spoilt[0] = float("nan")
    found = input_gradient_norms(model, spoilt, y)
    assert torch.isnan(found[0]) and torch.isfinite(found[1:]).all()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(input_gradient_norms(model, x, y), expected := input_gradient_norms(model, x, y))
    torch.testing.assert_close(input_gradient_norms(model, x, y), expected)


class Blocked(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        with torch.no_grad():
            return self.model(x)


def test_it_travels(images, model):
    """Picklable and copied, in the middle of an epoch: the copy goes on as the original does."""
    x, y = images
    recorder = HardnessRecorder(N, hardness=["aign", "el2n", "grand", "forgetting"])
    loop(model, recorder, DataLoader(TensorDataset(x, y, torch.arange(N)), 25), "mean")
    other = pickle.loads(pickle.dumps(recorder))
    for one in (recorder, other, copy.deepcopy(recorder)):
        loop(model, one, DataLoader(TensorDataset(x, y, torch.arange(N)), 25), "mean")
        np.testing.assert_array_equal(one.scores()["aign_online"], recorder.scores()["aign_online"])


@pytest.mark.parametrize(("observed", "said"), [(False, 1), (True, 0)])
def test_what_nothing_checks_is_said_once(images, model, caplog, observed, said):
    x, y = images
    recorder = HardnessRecorder(N, "mean")
    for _ in range(2):
        seen = recorder.watch(x, torch.arange(N))
        logits = model(seen)
        if observed:
            recorder.observe(logits, y, torch.arange(N))
        F.cross_entropy(logits, y).backward()
        recorder.end_epoch()
    assert sum("recorder.observe(logits, y, index)" in message for message in caplog.messages) == said


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("scale", [1.0, 512.0])
def test_class_weights_are_undone(images, model, reduction, scale):
    """PyTorch's weighted mean divides by the sum of weights: each sample's gradient is that of its own weighted loss."""
    x, y = images
    weight = torch.linspace(0.2, 3, 10)
    recorder = HardnessRecorder(N, reduction, class_weight=weight.tolist())
    for rows in torch.arange(N).split(20):
        seen = recorder.watch(x[rows], rows, scale=scale)
        logits = model(seen)
        recorder.observe(logits, y[rows], rows)
        (scale * F.cross_entropy(logits, y[rows], weight, reduction=reduction)).backward()
    recorder.end_epoch()
    expected = input_gradient_norms(model, x, y) * weight[y]
    np.testing.assert_allclose(recorder.scores()["grad_norm_online"], expected.numpy(), rtol=1e-4, atol=1e-6)


def test_class_weights_that_are_not_so_are_refused(images, model):
    x, y = images
    index = torch.arange(N)
    weight = torch.linspace(0.2, 3, 10)
    with pytest.raises(UsageError, match="class_weight.*'weighted'"):
        HardnessRecorder(N, loss="weighted")
    recorder = HardnessRecorder(N, class_weight=weight.tolist())
    logits = model(recorder.watch(x, index))
    recorder.observe(logits, y, index)
    with pytest.raises(UsageError, match="cross-entropy"):
        F.cross_entropy(logits, y).backward()
    recorder = HardnessRecorder(N, class_weight=weight.tolist())
    with pytest.raises(UsageError, match=r"^class_weight\b.*\bobserve\b"):
        F.cross_entropy(model(recorder.watch(x, index)), y, weight).backward()


def test_labels_and_indices_that_are_none(images, model):
    x, y = images
    recorder = HardnessRecorder(N)
    index = torch.arange(N)
    for labels in (y + 5, y - 1, torch.full_like(y, -100)):
        with pytest.raises(UsageError, match=r"\by\b.*\b0\.\.9\b"):
            recorder.observe(model(x), labels, index)
    names = [f"sample {row}" for row in range(N)]
    for call in (lambda: recorder.watch(x, names), lambda: recorder.observe(model(x), y, names)):
        with pytest.raises(UsageError, match=r": index\b"):
            call()


def test_a_loss_of_nan_is_one_error(images, model):
    x, y = images
    recorder = HardnessRecorder(N)
    for rows in torch.arange(N).split(20):
        (F.cross_entropy(model(recorder.watch(x[rows], rows)), y[rows]) * float("nan")).backward()
    with pytest.raises(RunError, match=r"\bloss\b.*\bepoch 1\b"):
        recorder.end_epoch()


def test_class_weights_of_micro_batches_that_go_backward_together(images, model):
    x, y = images
    weight = torch.linspace(0.2, 3, 10)
    parts = torch.arange(N).split([40, 63])
    recorder = HardnessRecorder(N, class_weight=weight)
    losses = []
    for rows in parts:
        logits = model(recorder.watch(x[rows], rows))
        recorder.observe(logits, y[rows], rows)
        losses.append(F.cross_entropy(logits, y[rows], weight))
    sum(losses).backward()
    recorder.end_epoch()
    expected = input_gradient_norms(model, x, y) * weight[y]
    np.testing.assert_allclose(recorder.scores()["grad_norm_online"], expected.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("weight", [[1.0, 2.0], [[1.0] * 10], [float("nan")] * 10, [-1.0] * 10, "abc"])
def test_class_weights_that_are_none_are_refused(images, model, weight):
    x, y = images
    with pytest.raises(UsageError, match=r"^class_weight\b.*\bclasses\b"):
        HardnessRecorder(N, class_weight=weight).observe(model(x), y, torch.arange(N))
