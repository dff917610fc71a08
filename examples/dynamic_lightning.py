"""InfoBatch under Lightning: the callback records, the sampler chooses, and the step weighs its losses."""

import lightning
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import easycoreset as ec
from easycoreset.integrations.lightning import HardnessCallback


class Classifier(lightning.LightningModule):
    def __init__(self, recorder: ec.HardnessRecorder, sampler: ec.EpochSampler) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 10))
        self.recorder = recorder
        self.sampler = sampler

    def training_step(self, batch, batch_idx):
        x, y, index = batch
        losses = F.cross_entropy(self.network(x), y, reduction="none")
        self.recorder.observe_losses(losses, index)
        return (self.sampler.weight_of(index) * losses).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def main(method: str = "infobatch", fraction: float | None = None, epochs: int = 10) -> ec.EpochSampler:
    torch.manual_seed(0)
    split = ec.open_source("digits").splits["train"]
    batch = next(split.batches(torch.arange(len(split)).numpy(), len(split)))
    dataset = ec.with_index(TensorDataset(batch.x, batch.y))
    recorder = ec.HardnessRecorder(len(dataset), loss="weighted by the sampler", hardness=["objective_loss"])
    sampler = ec.EpochSampler(method, recorder, fraction, epochs=epochs)
    trainer = lightning.Trainer(
        max_epochs=epochs,
        callbacks=[HardnessCallback(recorder, network="network")],
        use_distributed_sampler=False,  # the sampler gives each process its part itself
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Classifier(recorder, sampler), DataLoader(dataset, batch_size=64, sampler=sampler))
    return sampler


if __name__ == "__main__":
    sampler = main()
    print(f"the last epoch trained on {len(sampler)} samples")
