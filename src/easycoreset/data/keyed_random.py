"""Stateless random numbers: each draw is a function of its keys, so a resumed run draws the same numbers."""

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_MIX1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX2 = 0x94D049BB133111EB - 2**64


def derive_seed(*keys: int | str) -> int:
    """A 63-bit seed derived from the keys."""
    return int.from_bytes(hashlib.blake2b(repr(keys).encode(), digest_size=8).digest(), "little") >> 1


def make_generator(*keys: int | str) -> torch.Generator:
    """A CPU generator seeded from the keys."""
    return torch.Generator().manual_seed(derive_seed(*keys))


def keyed_uniform(index: Tensor, shape: Sequence[int], *keys: int | str) -> Tensor:
    """Uniform draws in [0, 1) that depend only on (keys, index, position in `shape`), never on the batch.

    Args:
        index: [B] int64.
        shape: shape of the draws for one sample.
        keys: further keys of the draws (seed, restart, epoch).

    Returns:
        [B, *shape] float32 on the device of `index`.
    """
    positions = torch.arange(math.prod(shape), device=index.device)
    start = _mix(index + (derive_seed(*keys) & (2**62 - 1)))
    bits = _mix(start[:, None] + (positions + 1) * _GOLDEN)
    uniform = (bits >> 40 & 0xFFFFFF).to(torch.float32) / 2**24
    return uniform.view(len(index), *shape)


def keyed_normal(index: Tensor, shape: Sequence[int], *keys: int | str) -> Tensor:
    """Standard normal draws with the same keys and shapes (Box-Muller)."""
    radius = torch.sqrt(-2 * torch.log1p(-keyed_uniform(index, shape, "radius", *keys)))
    return radius * torch.cos(2 * math.pi * keyed_uniform(index, shape, "angle", *keys))


def _mix(bits: Tensor) -> Tensor:
    """The finaliser of splitmix64 in int64, where products wrap around."""
    bits = (bits ^ _shift(bits, 30)) * _MIX1
    bits = (bits ^ _shift(bits, 27)) * _MIX2
    return bits ^ _shift(bits, 31)


def _shift(bits: Tensor, count: int) -> Tensor:
    """Logical right shift."""
    return (bits >> count) & ((1 << (64 - count)) - 1)
