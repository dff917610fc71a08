"""Hardness from a plain PyTorch loop: two lines watch the images and observe the logits."""

import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import easycoreset as ec


def main(epochs: int = 10, samples: int = 1438, lr: float = 0.1) -> ec.Scores:
    torch.manual_seed(0)
    split = ec.open_source("digits").splits["train"]
    batch = next(split.batches(torch.arange(samples).numpy(), samples))
    dataset = ec.with_index(TensorDataset(batch.x, batch.y))
    loader = DataLoader(dataset, batch_size=64, shuffle=True)
    body = nn.Sequential(nn.Flatten(), nn.Linear(64, 96), nn.ReLU())
    head = nn.Linear(96, 10)
    optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=lr, momentum=0.9)

    recorder = ec.HardnessRecorder(len(dataset))
    for _ in range(epochs):
        for x, y, index in loader:
            x = recorder.watch(x, index)
            features = body(x)
            logits = head(features)
            recorder.observe(logits, y, index, features)  # before the backward pass
            optimizer.zero_grad()
            F.cross_entropy(logits, y).backward()
            optimizer.step()
        recorder.end_epoch()
    return recorder.scores(labels=batch.y)


if __name__ == "__main__":
    scores = main()
    same = spearmanr(scores["aign_online"], scores["loss_online"])[0]
    print(f"{len(scores)} samples; Spearman of input gradient and loss: {same:.3f}")
