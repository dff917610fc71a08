"""Values of one epoch by sample: means, first values, values that are not finite."""

import torch

from easycoreset.hardness.accumulator import EpochAccumulator

NAN = float("nan")


def test_repeats_in_a_batch_have_their_mean_or_their_first_finite_value():
    values = EpochAccumulator(["loss", "correct"], 4, first=["correct"])
    index = torch.tensor([2, 0, 2, 2, 0])
    values.add([torch.tensor([1.0, 4, 3, NAN, 6]), torch.tensor([NAN, 1.0, 5, 7, 8])], index)
    values.add([torch.tensor([10.0]), torch.tensor([9.0])], torch.tensor([3]))
    values.add([torch.tensor([20.0]), torch.tensor([6.0])], torch.tensor([3]))  # seen before: the first value stays
    expected = torch.tensor([[5.0, NAN, 2, 15], [1.0, NAN, 5, 9]])
    assert torch.allclose(values.values().float(), expected, equal_nan=True)
    assert values.nonfinite() == {"loss": 1, "correct": 1}


def test_first_values_do_not_depend_on_how_batches_are_cut():
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(0, 50, (400,), generator=generator)
    seen = torch.rand(400, generator=generator)
    seen[torch.rand(400, generator=generator) < 0.2] = NAN
    by_batch = {}
    for size in (1, 7, 400):
        values = EpochAccumulator(["a"], 50, first=["a"])
        for start in range(0, 400, size):
            values.add([seen[start : start + size]], index[start : start + size])
        by_batch[size] = values.values()
    assert torch.equal(by_batch[1], by_batch[7]) and torch.equal(by_batch[1], by_batch[400])
