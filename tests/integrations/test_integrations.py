"""Lightning, Trainer and Accelerate give the scores of a plain loop, on real digits, against the real libraries."""

import copy
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from easycoreset import HardnessRecorder, UsageError, with_index
from easycoreset.models.digits_cnn import digits_cnn

N = 103  # 103 = 6 * 16 + 7: a short last batch
BATCH = 16
EPOCHS = 3
COLUMNS = ("aign_online", "loss_online", "aum_online", "forgetting_online", "grand_online")


@pytest.fixture(scope="module")
def images(digits):
    batch = next(digits.splits["train"].batches(np.arange(N), N))
    return batch.x.contiguous(), batch.y


@pytest.fixture
def model():
    torch.manual_seed(0)
    return digits_cnn(1, 10)


def plain(model, images, lr=0.1, epochs=EPOCHS, accumulate=1):
    """The loop that everything is compared with, in the order of the samples, as users write it."""
    x_all, y_all = images
    model = copy.deepcopy(model).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    recorder = HardnessRecorder(N)
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    caught = []
    layers[-1].register_forward_pre_hook(lambda layer, inputs: caught.append(inputs[0].flatten(1)))
    for _ in range(epochs):
        for step, (x, y, index) in enumerate(DataLoader(with_index(TensorDataset(x_all, y_all)), batch_size=BATCH)):
            x = recorder.watch(x, index, scale=1 / accumulate)
            output = model(x)
            logits = getattr(output, "logits", output)
            recorder.observe(logits, y, index, caught.pop())
            (F.cross_entropy(logits, y) / accumulate).backward()
            if step % accumulate == accumulate - 1 or step == (N - 1) // BATCH:
                optimizer.step()
                optimizer.zero_grad()
        recorder.end_epoch()
    return recorder.scores(labels=y_all)


def assert_same(found, expected, columns=COLUMNS, rtol=1e-5):
    assert set(columns) <= set(found.columns)
    np.testing.assert_array_equal(found.n_obs, expected.n_obs)
    for column in columns:
        np.testing.assert_allclose(found[column], expected[column], rtol=rtol, atol=1e-6, err_msg=column)
        assert np.ptp(expected[column]) > 0 or column == "forgetting_online", column


# Lightning


QUIET = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False, "enable_model_summary": False}
THIRD_PARTY = pytest.mark.filterwarnings(
    "ignore:The '(train|val)_dataloader' does not have many workers:UserWarning",
    "ignore:Be aware that when using .ckpt_path., callbacks used to create the checkpoint:UserWarning",
    "ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning",
)


def lightning_run(
    model, images, folder, lr=0.1, epochs=EPOCHS, resume=None, network="network", call="network", saver=(), **given
):
    pytest.importorskip("lightning")
    import lightning.pytorch as pl

    from easycoreset.integrations.lightning import HardnessCallback

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = copy.deepcopy(model)

        def forward(self, x):
            return self.network(x)

        def training_step(self, batch, batch_idx):
            x, y, _ = batch
            return F.cross_entropy(self(x) if call == "self" else self.network(x), y)

        def validation_step(self, batch, batch_idx):
            self.network(batch[0])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=lr)

    callback = HardnessCallback(HardnessRecorder(N), network)
    trainer = pl.Trainer(
        max_epochs=epochs,
        callbacks=[callback, *saver],
        logger=False,
        default_root_dir=folder,
        enable_checkpointing=bool(saver),
        **QUIET,
        **given,
    )
    loader = DataLoader(with_index(TensorDataset(*images)), batch_size=BATCH)
    trainer.fit(Module(), loader, loader, ckpt_path=resume)
    return callback.recorder.scores(labels=images[1])


@THIRD_PARTY
@pytest.mark.parametrize(("network", "call"), [("network", "network"), ("", "self")])
def test_lightning_equals_the_plain_loop(model, images, tmp_path, network, call):
    assert_same(lightning_run(model, images, tmp_path, network=network, call=call), plain(model, images))


@THIRD_PARTY
@pytest.mark.parametrize("after_training", [True, False])
def test_lightning_goes_on_from_its_checkpoint(model, images, tmp_path, after_training):
    from lightning.pytorch.callbacks import ModelCheckpoint

    saver = ModelCheckpoint(
        tmp_path / "kept", filename="{epoch}", save_top_k=-1, save_on_train_epoch_end=after_training
    )
    whole = lightning_run(model, images, tmp_path, saver=[saver])
    resumed = lightning_run(model, images, tmp_path, resume=tmp_path / "kept" / "epoch=1.ckpt")
    assert_same(resumed, whole, rtol=0)


@THIRD_PARTY
def test_lightning_undoes_accumulation_and_a_scaler(model, images, tmp_path):
    expected = plain(model, images, lr=0.0)
    assert_same(lightning_run(model, images, tmp_path, lr=0.0, accumulate_grad_batches=2), expected)
    accumulated = plain(model, images, accumulate=2)
    assert_same(lightning_run(model, images, tmp_path, accumulate_grad_batches=2), accumulated)
    from lightning.pytorch.plugins.precision import MixedPrecision

    class Scaled(MixedPrecision):
        def forward_context(self):
            return torch.autocast("cpu", enabled=False)  # the scaler alone, in float32

    plugin = Scaled("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3))
    assert_same(lightning_run(model, images, tmp_path, lr=0.0, plugins=plugin), expected)
    assert plugin.scaler.get_scale() > 1024


@THIRD_PARTY
def test_lightning_misuse_is_named(model, images, tmp_path):
    with pytest.raises(UsageError, match=r"call Module\b"):
        lightning_run(model, images, tmp_path, network="")
    with pytest.raises(UsageError, match=r"'netwrok'.*\bModule\b.*'network'"):
        lightning_run(model, images, tmp_path, network="netwrok")


# Hugging Face


class Dicts(torch.utils.data.Dataset):
    """What a Trainer takes: `pixel_values`, `labels` and the `index`."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images[1])

    def __getitem__(self, place):
        return {"pixel_values": self.images[0][place], "labels": self.images[1][place], "index": place}


class Wrapped(nn.Module):
    """A model of one's own in a Trainer: it takes no loss arguments."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, pixel_values, labels=None):
        logits = self.network(pixel_values)
        return {"logits": logits} if labels is None else {"loss": F.cross_entropy(logits, labels), "logits": logits}


def published(kind):
    """Tiny models of the library: ViT divides its loss by the number of items that it is given, ResNet does not."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    if kind == "vit":
        config = transformers.ViTConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=8,
            intermediate_size=32,
            patch_size=4,
            num_channels=1,
            num_labels=10,
        )
        return transformers.ViTForImageClassification(config)
    config = transformers.ResNetConfig(
        num_channels=1, embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=10
    )
    return transformers.ResNetForImageClassification(config)


def trainer_run(model, images, folder, lr=0.1, epochs=EPOCHS, loss=None, resume=None, recorder=None, **given):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from easycoreset.integrations.huggingface import HardnessMixin

    class Recording(HardnessMixin, transformers.Trainer):
        pass

    model = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    settings = {
        "per_device_train_batch_size": BATCH,
        "num_train_epochs": epochs,
        "use_cpu": True,
        "max_grad_norm": 0,
        "train_sampling_strategy": "sequential",
        "remove_unused_columns": False,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "logging_strategy": "no",
        "dataloader_pin_memory": False,
    }
    recorder = recorder or HardnessRecorder(N)
    constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    trainer = Recording(
        model,
        transformers.TrainingArguments(output_dir=str(folder), **settings | given),
        recorder=recorder,
        train_dataset=Dicts(images),
        eval_dataset=Dicts(images),
        optimizers=(optimizer, constant),
        compute_loss_func=loss,
    )
    trainer.train(resume_from_checkpoint=resume)
    return recorder.scores(labels=images[1])


def test_trainer_equals_the_plain_loop(model, images, tmp_path):
    assert_same(trainer_run(Wrapped(model), images, tmp_path), plain(model, images))


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_trainer_with_models_of_the_library(images, tmp_path, kind):
    model = published(kind)
    expected = plain(model, images, lr=0.05)
    assert_same(trainer_run(model, images, tmp_path, lr=0.05, eval_strategy="epoch"), expected)


@pytest.mark.parametrize("kind", ["own", "vit", "resnet"])
def test_trainer_undoes_accumulation(model, images, tmp_path, kind):
    given = Wrapped(model) if kind == "own" else published(kind)
    expected = plain(model if kind == "own" else given, images, lr=0.0)
    assert_same(trainer_run(given, images, tmp_path, lr=0.0, gradient_accumulation_steps=2), expected)
    assert_same(trainer_run(given, images, tmp_path, lr=0.0, gradient_accumulation_steps=3), expected)


@pytest.mark.parametrize("counts", [True, False])
def test_trainer_with_a_loss_of_ones_own(model, images, tmp_path, counts):
    def loss(outputs, labels, num_items_in_batch=None):
        total = F.cross_entropy(outputs["logits"], labels, reduction="sum")
        return total / (num_items_in_batch if counts else len(labels))

    expected = plain(model, images, lr=0.0)
    assert_same(
        trainer_run(Wrapped(model), images, tmp_path, lr=0.0, loss=loss, gradient_accumulation_steps=2), expected
    )


def test_trainer_in_bfloat16_is_near(model, images, tmp_path):
    found = trainer_run(Wrapped(model), images, tmp_path, lr=0.0, bf16=True, gradient_accumulation_steps=2)
    expected = plain(model, images, lr=0.0)
    ratio = found["aign_online"] / expected["aign_online"]
    assert abs(np.median(ratio) - 1) < 0.02 and np.corrcoef(found["aign_online"], expected["aign_online"])[0, 1] > 0.99


@pytest.mark.parametrize("saving", [{"save_strategy": "epoch"}, {"save_strategy": "steps", "save_steps": 5}])
def test_trainer_goes_on_from_its_checkpoint(model, images, tmp_path, saving):
    whole = trainer_run(Wrapped(model), images, tmp_path / "whole")
    trainer_run(Wrapped(model), images, tmp_path / "cut", **saving)
    last = {"epoch": 14, "steps": 10}[saving["save_strategy"]]  # 7 steps an epoch
    resumed = trainer_run(Wrapped(model), images, tmp_path / "cut", resume=str(tmp_path / "cut" / f"checkpoint-{last}"))
    assert_same(resumed, whole, rtol=1e-6)
    (tmp_path / "cut" / f"checkpoint-{last}" / "hardness.pt").unlink()
    with pytest.raises(UsageError, match=rf"checkpoint-{last}/hardness\.pt"):
        trainer_run(Wrapped(model), images, tmp_path / "cut", resume=str(tmp_path / "cut" / f"checkpoint-{last}"))


def test_trainer_misuse_is_named(model, images, tmp_path):
    with pytest.raises(UsageError, match="pixel_values, labels and index.*remove_unused_columns=False"):
        trainer_run(Wrapped(model), images, tmp_path, remove_unused_columns=True)
    with pytest.raises(UsageError, match="^recorder.*'mean'.*'sum'"):
        trainer_run(Wrapped(model), images, tmp_path, recorder=HardnessRecorder(N, "sum"))
    with pytest.raises(UsageError, match="cross-entropy.*reduction='mean'"):
        trainer_run(published("vit"), images, tmp_path, label_smoothing_factor=0.9)


# Several processes


TWO = """
import sys, torch, numpy as np
import torch.distributed.nn.functional  # imported later, its defaults would hold the process group after its end
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_integrations as t
from easycoreset import open_source
torch.set_num_threads(1)
batch = next(open_source("digits").splits["train"].batches(np.arange(t.N), t.N))
images = batch.x.contiguous(), batch.y
torch.manual_seed(0)
model = t.nn.Sequential(t.nn.Flatten(), t.nn.Linear(64, 32), t.nn.ReLU(), t.nn.Linear(32, 10))  # no batch norm
folder, vit = Path(sys.argv[2]), t.published("vit")
for given, plain in ((t.Wrapped(model), model), (vit, vit)):
    for mean in (True, False):
        found = t.trainer_run(given, images, folder, lr=0.0, ddp_backend="gloo", gradient_accumulation_steps=2,
                              average_tokens_across_devices=mean)
        t.assert_same(found, t.plain(plain, images, lr=0.0))
t.QUIET["devices"] = 2
from lightning.pytorch.strategies import DDPStrategy
found = t.lightning_run(model, images, folder, lr=0.0, accumulate_grad_batches=2,
                        strategy=DDPStrategy(process_group_backend="gloo"))
t.assert_same(found, t.plain(model, images, lr=0.0))
(folder / f"same on {torch.distributed.get_rank()}").touch()
torch.distributed.destroy_process_group()  # its threads abort a process that ends with them, in one of twelve runs
"""


@pytest.mark.slow
def test_two_processes_share_the_samples(tmp_path):
    pytest.importorskip("lightning")
    pytest.importorskip("transformers")
    (tmp_path / "two.py").write_text(TWO)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(tmp_path / "two.py"),
        str(Path(__file__).parent),
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [(tmp_path / f"same on {rank}").exists() for rank in range(2)] == [True, True]


# The examples


@pytest.fixture
def fresh_accelerate():
    """Accelerate's settings live as long as the process: the Trainer's are not those of the examples."""
    state = pytest.importorskip("accelerate.state")
    state.AcceleratorState._reset_state(True)
    yield
    state.AcceleratorState._reset_state(True)


@pytest.mark.usefixtures("fresh_accelerate")
@pytest.mark.parametrize(("accumulate", "lr"), [(1, 0.1), (2, 0.0)])
def test_accelerate_equals_the_plain_loop(accumulate, lr):
    from examples import accelerate_loop, plain_pytorch

    expected = plain_pytorch.main(epochs=2, samples=300, lr=lr)
    found = accelerate_loop.main(epochs=2, samples=300, lr=lr, accumulate=accumulate)
    assert_same(found, expected)


@THIRD_PARTY
def test_the_examples_of_dynamic_methods_learn_with_fewer_steps():
    pytest.importorskip("lightning")
    from examples import dynamic_lightning, dynamic_loop

    for method, fraction in (("infobatch", None), ("rs2", 0.5)):
        assert dynamic_loop.main(method, fraction, epochs=8) > 0.9
    sampler = dynamic_lightning.main(epochs=4)
    assert sampler.recorder.epoch == 5 and np.isfinite(sampler.recorder.latest("objective_loss_online")).all()


@pytest.mark.parametrize(
    ("module", "library", "extra"), [("lightning", "lightning", "lightning"), ("huggingface", "transformers", "hf")]
)
def test_a_missing_extra_is_one_line(monkeypatch, module, library, extra):
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setitem(sys.modules, f"{library}.pytorch", None)
    monkeypatch.delitem(sys.modules, f"easycoreset.integrations.{module}", raising=False)
    with pytest.raises(UsageError, match=rf"{library}.*pip install easycoreset\[{extra}\]"):
        __import__(f"easycoreset.integrations.{module}")
