"""InfoBatch and RS2 in a plain PyTorch loop: a sampler for the DataLoader, and weights for the losses."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import easycoreset as ec


def main(method: str = "infobatch", fraction: float | None = None, epochs: int = 10, lr: float = 0.05) -> float:
    torch.manual_seed(0)
    split = ec.open_source("digits").splits["train"]
    batch = next(split.batches(torch.arange(len(split)).numpy(), len(split)))
    dataset = ec.with_index(TensorDataset(batch.x, batch.y))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)

    recorder = ec.HardnessRecorder(len(dataset), loss="weighted by the sampler", hardness=["objective_loss"])
    sampler = ec.EpochSampler(method, recorder, fraction, epochs=epochs)
    loader = DataLoader(dataset, batch_size=64, sampler=sampler)
    steps = 0
    for _ in range(epochs):
        for x, y, index in loader:
            losses = F.cross_entropy(model(x), y, reduction="none")
            recorder.observe_losses(losses, index)
            optimizer.zero_grad()
            (sampler.weight_of(index) * losses).mean().backward()
            optimizer.step()
            steps += 1
        recorder.end_epoch()
    with torch.no_grad():
        accuracy = float((model(batch.x).argmax(1) == batch.y).float().mean())
    print(f"{method}: {steps} steps, training accuracy {accuracy:.3f}")
    return accuracy


if __name__ == "__main__":
    main("infobatch")
    main("rs2", fraction=0.5)
