"""A training loop of somebody's on several processes, for torchrun: DDP, DistributedSampler, a frozen model."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed.nn.functional  # imported after the group was made it would hold it, and abort the process's end
import torch.nn.functional as F
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from easycoreset import HardnessRecorder, open_source, with_index

N = 103
BATCH = 8


def run(drop_last):
    batch = next(open_source("digits").splits["train"].batches(np.arange(N), N))
    data = with_index(TensorDataset(batch.x.contiguous(), batch.y))
    torch.manual_seed(0)
    model = DistributedDataParallel(nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)))
    sampler = DistributedSampler(data, shuffle=True, drop_last=drop_last)
    loader = DataLoader(data, BATCH, sampler=sampler, drop_last=drop_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    recorder = HardnessRecorder(N)
    seen = torch.zeros(N, dtype=torch.int64)
    for epoch in range(2):
        sampler.set_epoch(epoch)
        for x, y, index in loader:
            x = recorder.watch(x, index)
            features = model.module[:3](x)
            logits = model(x)
            recorder.observe(logits, y, index, features)
            optimizer.zero_grad()
            F.cross_entropy(logits, y).backward()
            optimizer.step()
            seen[index] += 1
        recorder.end_epoch()
    distributed.all_reduce(seen)
    return recorder.scores(labels=batch.y), seen


if __name__ == "__main__":
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    for name, drop_last in (("padded", False), ("dropped", True)):
        scores, seen = run(drop_last)
        if distributed.get_rank() == 0:
            scores.write(Path(sys.argv[1]) / f"{name}.parquet")
            facts = {"world_size": distributed.get_world_size(), "seen": seen.tolist()}
            (Path(sys.argv[1]) / f"{name}.json").write_text(json.dumps(facts))
    distributed.destroy_process_group()
