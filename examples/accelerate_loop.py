"""Hardness from a loop of Hugging Face Accelerate, with gradient accumulation, on one process or several."""

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from scipy.stats import spearmanr
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import easycoreset as ec


def main(epochs: int = 10, samples: int = 1438, lr: float = 0.1, accumulate: int = 2) -> ec.Scores:
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
    split = ec.open_source("digits").splits["train"]
    batch = next(split.batches(torch.arange(samples).numpy(), samples))
    dataset = ec.with_index(TensorDataset(batch.x, batch.y))
    loader = DataLoader(dataset, batch_size=64, shuffle=True)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    caught = []  # the input of the last layer: the features
    model[-1].register_forward_pre_hook(lambda layer, inputs: caught.append(inputs[0]))
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

    recorder = ec.HardnessRecorder(len(dataset))
    for _ in range(epochs):
        for x, y, index in loader:
            with accelerator.accumulate(model):
                scale = accelerator.scaler.get_scale() if accelerator.scaler else 1.0
                x = recorder.watch(x, index, scale / accelerator.gradient_accumulation_steps)
                logits = model(x)
                recorder.observe(logits, y, index, caught.pop())
                accelerator.backward(F.cross_entropy(logits, y))
                optimizer.step()
                optimizer.zero_grad()
        recorder.end_epoch()
    return recorder.scores(labels=batch.y)


if __name__ == "__main__":
    scores = main()
    same = spearmanr(scores["aign_online"], scores["loss_online"])[0]
    print(f"{len(scores)} samples; Spearman of input gradient and loss: {same:.3f}")
