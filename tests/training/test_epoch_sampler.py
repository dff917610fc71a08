"""The sampler that gives dynamic methods to foreign loops."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from easycoreset import EasycoresetWarning, EpochSampler, HardnessRecorder, UsageError, with_index
from easycoreset.dynamic import DYNAMIC_METHODS, LOSS, load_dynamic_method
from easycoreset.dynamic.chooser import DynamicChooser

N = 120
FRACTIONS = dict.fromkeys(DYNAMIC_METHODS, 0.3) | dict.fromkeys(("infobatch", "self-paced", "seta"))


@pytest.fixture
def data(digits):
    batch = next(digits.splits["train"].batches(np.arange(N), N))
    return TensorDataset(batch.x.contiguous(), batch.y)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


def run_epoch(model, recorder, sampler, data, optimizer=None):
    """An epoch of a plain loop; returns the indices and the weights of its samples."""
    seen, weights = [], []
    for x, y, index in DataLoader(with_index(data), batch_size=16, sampler=sampler):
        losses = F.cross_entropy(model(x), y, reduction="none")
        recorder.observe_losses(losses, index)
        if optimizer is not None:
            optimizer.zero_grad()
            (sampler.weights[index] * losses).mean().backward()
            optimizer.step()
        seen += index.tolist()
        weights += sampler.weights[index].tolist()
    recorder.end_epoch()
    return seen, weights


@pytest.mark.parametrize("name", DYNAMIC_METHODS)
def test_any_method_in_a_plain_loop(name, data):
    """Each epoch has the rows that the method chooses by the recorder's values, with its weights, and learns."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    recorder = HardnessRecorder(N, loss="mine", hardness=["objective_loss"])
    more = {"labels": data.tensors[1], "batch_size": 16, "epochs": 6, "model": model, "data": data}
    sampler = EpochSampler(name, recorder, FRACTIONS[name], **more)
    chooser = DynamicChooser(name, data.tensors[1].numpy(), FRACTIONS[name], 0, 16)
    for epoch in range(1, 7):
        passes = sampler._make_passes(epoch)
        choice = chooser.choose(epoch, (epoch - 1) / 6, {LOSS: recorder.latest(LOSS)}, passes)
        chooser.previous = choice
        expected = dict(
            zip(choice.rows.tolist(), (np.ones(N) if choice.weight is None else choice.weight).tolist(), strict=False)
        )
        seen, weights = run_epoch(model, recorder, sampler, data, optimizer)
        assert sorted(seen) == sorted(expected) and len(sampler) >= 1
        assert dict(zip(seen, weights, strict=True)) == pytest.approx(expected)
        assert sampler.weight_of(torch.tensor(seen)).tolist() == weights
    assert np.isfinite(recorder.latest(LOSS)[seen]).all()


def test_two_lines_give_the_loss_of_a_plain_recorder(data):
    """With `observe` alone the present loss is the cross-entropy that the loop minimises."""
    model = network()
    recorder = HardnessRecorder(N)
    sampler = EpochSampler("infobatch", recorder)
    for _ in range(3):
        for x, y, index in DataLoader(with_index(data), batch_size=16, sampler=sampler):
            logits = model(recorder.watch(x, index))
            recorder.observe(logits, y, index)
            F.cross_entropy(logits, y).backward()
        recorder.end_epoch()
    loss = recorder.latest(LOSS)
    with torch.no_grad():
        expected = F.cross_entropy(model(data.tensors[0]), data.tensors[1], reduction="none").numpy()
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    below = (loss < loss.mean()).sum()
    assert len(list(sampler)) == N - int(below * 0.5) and sampler.weights.max() > 1.9


def test_observe_gives_the_loss_where_it_alone_is_asked_for(data):
    """Plain cross-entropy, recorded every second epoch: the first has nothing yet, which is no mistake."""
    model = network()
    recorder = HardnessRecorder(N, hardness=["objective_loss"], every=2)
    sampler = EpochSampler("infobatch", recorder)
    lengths = []
    for _ in range(3):
        for x, y, index in DataLoader(with_index(data), batch_size=16, sampler=sampler):
            logits = model(x)
            recorder.observe(logits, y, index)
            F.cross_entropy(logits, y).backward()
        lengths.append(len(sampler))
        recorder.end_epoch()
    assert lengths[:2] == [N, N] and lengths[2] < N and np.isfinite(recorder.latest(LOSS)).all()
    assert recorder.columns == ["objective_loss_online"] == list(recorder.scores().columns)


def test_rs2_covers_everything_and_its_length_is_known_before(data):
    recorder = HardnessRecorder(N, loss="mine", hardness=["objective_loss"])
    sampler = EpochSampler("rs2", recorder, 0.25)
    loader = DataLoader(with_index(data), batch_size=16, sampler=sampler)
    assert len(sampler) == 30 and len(loader) == 2
    model = network()
    seen = [index for _ in range(4) for index in run_epoch(model, recorder, sampler, data)[0]]
    assert sorted(seen) == list(range(N))
    assert len(EpochSampler("infobatch", recorder)) == N


def test_it_goes_on_from_a_checkpoint(data):
    def build():
        recorder = HardnessRecorder(N, loss="mine", hardness=["objective_loss"])
        return recorder, EpochSampler("infobatch", recorder, epochs=8)

    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    recorder, sampler = build()
    for _ in range(3):
        run_epoch(model, recorder, sampler, data, optimizer)
    recorder_2, sampler_2 = build()
    recorder_2.load_state_dict(recorder.state_dict())
    sampler_2.load_state_dict(copy.deepcopy(sampler.state_dict()))
    model_2 = copy.deepcopy(model)
    assert run_epoch(model, recorder, sampler, data) == run_epoch(model_2, recorder_2, sampler_2, data)


def test_wrong_use(data):
    recorder = HardnessRecorder(N, loss="mine", hardness=["objective_loss"])

    class Stream(IterableDataset):
        def __iter__(self):
            return iter([])

    labels = data.tensors[1]
    for more, name in (
        ({"method": "rs2"}, "fraction"),
        ({"method": "infobatch", "fraction": 0.5}, "fraction"),
        ({"method": "rs2:per_class=true", "fraction": 0.5}, "labels"),
        ({"method": "acs-craig:unit=row", "fraction": 0.5}, "labels"),
        ({"method": "rs2", "fraction": 0.5, "labels": labels[:5]}, "labels"),
        ({"method": "reselect:method=moderate", "fraction": 0.5}, "labels"),
        ({"method": "rs2", "fraction": 0.5, "epochs": 0}, "epochs"),
        ({"method": "easiest-now", "fraction": 0.5, "model": network()}, "data"),
        ({"method": "easiest-now", "fraction": 0.5, "model": network(), "data": Stream()}, "map-style"),
        ({"method": "easiest-now", "fraction": 0.5, "model": network(), "data": TensorDataset(labels[:5])}, "data"),
        ({"method": "nothing"}, "nothing"),
    ):
        with pytest.raises(UsageError, match=name):
            EpochSampler(recorder=recorder, **more)
    with pytest.raises(ValueError, match="IterableDataset"):
        DataLoader(Stream(), sampler=EpochSampler("rs2", recorder, 0.5))
    with pytest.raises(UsageError, match="model"):
        list(EpochSampler("easiest-now", recorder, 0.5))
    with pytest.raises(UsageError, match="aum_online"):
        list(EpochSampler("easiest-now:by=aum_online:every=2", recorder, 0.5))


def test_a_loop_that_forgets_is_told(data):
    recorder = HardnessRecorder(N, loss="mine", hardness=["objective_loss"])
    sampler = EpochSampler("infobatch", recorder)
    assert len(list(sampler)) == N
    with pytest.warns(EasycoresetWarning, match="end_epoch"):
        list(sampler)
    recorder.end_epoch()
    with pytest.raises(UsageError, match="observe"):
        list(sampler)
    assert load_dynamic_method("rs2")[0] == "rs2"
