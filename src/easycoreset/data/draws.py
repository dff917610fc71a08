"""Randomness without state: every draw is a function of its keys, so that a resumed run draws the same."""

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_MIX1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX2 = 0x94D049BB133111EB - 2**64


def seed_of(*keys: int | str) -> int:
    """A 63-bit seed from any keys."""
    return int.from_bytes(hashlib.blake2b(repr(keys).encode(), digest_size=8).digest(), "little") >> 1


def generator_of(*keys: int | str) -> torch.Generator:
    """A CPU generator seeded from any keys."""
    return torch.Generator().manual_seed(seed_of(*keys))


def keyed_uniform(index: Tensor, shape: Sequence[int], *keys: int | str) -> Tensor:
    """Uniform draws in [0, 1) that depend on (keys, index, place in `shape`) alone, never on the batch.

    Args:
        index: [B] int64.
        shape: of the draws of one sample.
        keys: what else tells the draws apart (seed, restart, epoch).

    Returns:
        [B, *shape] float32 on the device of `index`.
    """
    places = torch.arange(math.prod(shape), device=index.device)
    start = _mix(index + (seed_of(*keys) & (2**62 - 1)))
    bits = _mix(start[:, None] + (places + 1) * _GOLDEN)
    uniform = (bits >> 40 & 0xFFFFFF).to(torch.float32) / 2**24
    return uniform.view(len(index), *shape)


def keyed_normal(index: Tensor, shape: Sequence[int], *keys: int | str) -> Tensor:
    """Standard normal draws, likewise (Box-Muller)."""
    radius = torch.sqrt(-2 * torch.log1p(-keyed_uniform(index, shape, "radius", *keys)))
    return radius * torch.cos(2 * math.pi * keyed_uniform(index, shape, "angle", *keys))


def _mix(bits: Tensor) -> Tensor:
    """The finaliser of splitmix64 on int64, whose products wrap around."""
    bits = (bits ^ _shift(bits, 30)) * _MIX1
    bits = (bits ^ _shift(bits, 27)) * _MIX2
    return bits ^ _shift(bits, 31)


def _shift(bits: Tensor, by: int) -> Tensor:
    """Logical shift to the right."""
    return (bits >> by) & ((1 << (64 - by)) - 1)
