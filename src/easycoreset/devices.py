"""GPUs: a unique name for each, batch sizes, and how a full or lost GPU is handled and reported."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from easycoreset.console import log
from easycoreset.errors import RunError, describe_error

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


PASS_BATCH = 250  # samples per batch of a pass without training
MAX_PASS_BATCH = 2000  # on a GPU
PASS_VALUES = 2**24  # values of the images in such a batch, at most


def pass_batch_size(given: int | None, device: "torch.device", shape: Sequence[int]) -> int:
    """The samples per batch of a pass over images [C,H,W]: as given, or 250, or what keeps a GPU busy.

    >>> import torch
    >>> [pass_batch_size(None, torch.device(kind), (3, 224, 224)) for kind in ("cpu", "cuda")]
    [250, 111]
    """
    if given is not None or device.type != "cuda":
        return given or PASS_BATCH
    return min(MAX_PASS_BATCH, max(1, PASS_VALUES // math.prod(shape)))


def with_index(device: "torch.device") -> "torch.device":
    """Replace `cuda` by the GPU that it stands for, such as `cuda:0`, so that each device has one name."""
    import torch

    if device.type != "cuda" or device.index is not None:
        return device
    return torch.device("cuda", torch.cuda.current_device())


def synchronize(device: "torch.device") -> None:
    """Wait until a GPU has done all its work."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def halve_until_it_fits(work: Callable[[int], T], batch_size: int, option: str) -> T:
    """Call `work(batch_size)`; where the GPU's memory does not suffice, again with half the size, down to 1.

    Args:
        work: gives the same result for every batch size, and goes on from what it has saved.
        batch_size: the first size.
        option: the name of the option that gives it.

    Raises:
        RunError: the memory does not suffice for one sample.
    """
    while True:
        try:
            return work(batch_size)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if batch_size == 1:
                raise RunError(f"{option} 1 is too much for the GPU: {describe_error(error)}") from None
        batch_size //= 2  # not inside `except`: the exception holds the tensors of the failed attempt
        log.warning("warning: the GPU's memory does not suffice; going on with %s %d", option, batch_size)


def is_out_of_memory(error: Exception) -> bool:
    """Whether a GPU's memory did not suffice."""
    text = str(error)
    of_library = text.startswith("CUDA error") and ("out of memory" in text or "ALLOC_FAILED" in text)
    return type(error).__name__ == "OutOfMemoryError" or of_library


def is_device_loss(error: Exception) -> bool:
    """Whether a GPU failed, after which a process can use it no more."""
    if is_out_of_memory(error):
        return False
    return type(error).__name__ == "AcceleratorError" or str(error).startswith("CUDA error")


def describe_gpu_error(error: Exception) -> str:
    """What a full or a lost GPU means for the user, on one line; empty for another error."""
    if is_out_of_memory(error):
        return f"the GPU's memory does not suffice: smaller batches need less ({describe_error(error)})"
    if is_device_loss(error) and "device-side assert" not in str(error):  # an assert is a wrong index in the code
        return f"the GPU failed during the work: the same command resumes on one that works ({describe_error(error)})"
    return ""
