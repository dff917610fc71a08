"""What every data set owes, and data sets that tests write."""

import pickle

import numpy as np
import torch


def check_source(source):
    """What every source owes."""
    for split in source.splits.values():
        assert len(split) == len(split.labels) == len(split.sample_ids) == len(set(split.sample_ids))
        assert split.labels.dtype == np.int64 and len(split.fingerprint) == 64
        order = np.random.default_rng(0).permutation(len(split))[:10].astype(np.int64)
        batches = list(split.batches(order, 4))
        assert [len(b.index) for b in batches] == [min(4, len(order) - start) for start in range(0, len(order), 4)]
        assert np.array_equal(torch.cat([b.index for b in batches]).numpy(), order)
        assert np.array_equal(torch.cat([b.y for b in batches]).numpy(), split.labels[order])
        x = torch.cat([b.x for b in batches])
        assert x.shape[1:] == source.shape and x.dtype == torch.float32 and 0 <= x.min() <= x.max() <= 1
        tail = list(split.batches(order, 4, skip=1))
        assert len(tail) == len(batches) - 1 and all(
            torch.equal(a.x, b.x) for a, b in zip(tail, batches[1:], strict=True)
        )
    assert len(source.mean) == len(source.std) == source.shape[0]


def write_cifar(root, spoil=None, copies=2):
    """A tiny CIFAR-10 folder in the published layout; its md5 differs from the published one."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]:
        batch = {
            b"data": rng.integers(0, 256, (10 * copies, 3072), dtype=np.uint8),
            b"labels": list(range(10)) * copies,
        }
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": [f"c{k}".encode() for k in range(10)]}))
    if spoil:
        spoil(folder)
    return f"cifar10:{root}"
