"""A process of several that trains a step and leaves: what of the group lives on is told in a file (test_processes)."""

import os
import sys
from pathlib import Path

import torch

from easycoreset.process_group import all_reduce_sum, destroy_process_group, init_process_group

if __name__ == "__main__":
    init_process_group(torch.device("cpu"))
    weights = torch.ones(3, requires_grad=True)
    weights.sum().backward()
    torch.optim.SGD([weights], 0.1).step()
    all_reduce_sum(weights.grad)
    destroy_process_group()
    threads = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    (Path(sys.argv[1]) / os.environ["RANK"]).write_text("\n".join(threads))
