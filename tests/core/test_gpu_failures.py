"""A GPU that is full or fails, as far as a CPU can show it: a model that raises what PyTorch raises there."""

import numpy as np
import pytest
import torch
from torch import nn

from easycoreset import RunError, UsageError, evaluate, score, train
from easycoreset.devices import (
    describe_gpu_error,
    halve_until_it_fits,
    is_device_loss,
    is_out_of_memory,
    with_index,
)
from easycoreset.training.setup import choose_device
from support.messages import named

MODEL = "tests.core.test_gpu_failures:small_memory"
FITTING = 256  # images; as many as the checks of an evaluation run at once


class SmallMemory(nn.Module):
    """A network of which a GPU holds no more than `FITTING` images."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    def forward(self, x):
        if len(x) > FITTING:
            raise torch.OutOfMemoryError(f"CUDA out of memory: {len(x)} images")
        return self.body(x)


def small_memory():
    return SmallMemory()


def failing():
    class Failing(SmallMemory):
        def forward(self, x):
            if len(x) > 100:
                raise RuntimeError("CUDA error: unspecified launch failure\nCUDA kernel errors might be reported later")
            return super().forward(x)

    return Failing()


def test_a_pass_that_does_not_fit_goes_on_with_half_the_batch(tmp_path, caplog):
    common = {"data": "digits", "model": MODEL, "epochs": 2, "hardness": ("aign", "aum")}
    whole = score(**common, scoring_batch_size=900, out=tmp_path / "halved")
    assert caplog.text.count("scoring_batch_size 450") == caplog.text.count("scoring_batch_size 225") == 2
    fitting = score(**common, scoring_batch_size=225, out=tmp_path / "fitting")
    assert caplog.text.count("scoring_batch_size") == 4
    for name in ("aign", "aum"):
        np.testing.assert_array_equal(whole[name], fitting[name])
    attacked = {
        "data": "digits",
        "weights": tmp_path / "fitting",
        "model": MODEL,
        "eps": 0.1,
        "margins": ("fmn:steps=5",),
    }
    halved = evaluate(**attacked, attack="pgd:steps=3", batch_size=300, out=tmp_path / "a")
    small = evaluate(**attacked, attack="pgd:steps=3", batch_size=150, out=tmp_path / "b")
    assert named(caplog.text, "batch_size 150")
    for first, second in zip(halved.attacked, small.attacked, strict=True):
        np.testing.assert_array_equal(first.pred, second.pred)


def test_training_that_does_not_fit_names_the_batch(tmp_path, cli):
    with pytest.raises(RunError, match=r"batch_size 300\b.*--batch-size"):
        train(data="digits", model=MODEL, updates=2, batch_size=300, out=tmp_path / "a")
    given = ("train", "--data", "digits", "--model", "tests.core.test_gpu_failures:failing", "--updates", 2)
    ran = cli(*given, "--out", tmp_path / "b")
    assert ran.code == 1 and named(ran.err, "GPU", "unspecified launch failure") and "bug" not in ran.err
    assert len(ran.err.strip().splitlines()[-1]) < 400


@pytest.mark.parametrize(
    ("text", "full", "lost", "said"),
    [
        ("CUDA error: out of memory", True, False, "smaller"),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling", True, False, "smaller"),
        ("CUDA error: an illegal memory access was encountered", False, True, "resumes"),
        ("CUDA error: device-side assert triggered", False, True, ""),
        ("shape mismatch", False, False, ""),
    ],
)
def test_a_full_gpu_is_no_lost_one(text, full, lost, said):
    error = RuntimeError(text)
    assert (is_out_of_memory(error), is_device_loss(error)) == (full, lost)
    assert said in describe_gpu_error(error) and bool(said) == bool(describe_gpu_error(error))


def test_no_batch_is_smaller_than_one_sample():
    tried = []

    def work(size):
        tried.append(size)
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(RunError, match="batch_size 1 "):
        halve_until_it_fits(work, 5, "batch_size")
    assert tried == [5, 2, 1]
    with pytest.raises(ZeroDivisionError):
        halve_until_it_fits(lambda size: 1 // 0, 5, "batch_size")


def test_a_gpu_has_one_name_and_one_process(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert with_index(torch.device("cuda")) == choose_device("cuda") == choose_device("auto") == torch.device("cuda", 1)
    assert with_index(torch.device("cuda", 0)).index == 0 and with_index(torch.device("cpu")).index is None
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device("cuda") == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UsageError, match=r"device.*\b2 GPUs\b.*--nproc-per-node 2"):
        choose_device("cuda")
