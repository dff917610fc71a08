"""A TRADES step beside the reference algorithm's, and PGD-20 beside a plain loop with the same outcomes."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.timing import ratio
from easycoreset.attacks.ball import project, random_point
from easycoreset.attacks.pgd import PGD
from easycoreset.data import Batch
from easycoreset.models import build_model
from easycoreset.models.card import ModelCard
from easycoreset.objectives.inner_maximisation import gaussian_start
from easycoreset.objectives.trades import TRADES

EPS = 8 / 255


def network() -> nn.Module:
    """The thin ResNet, fresh."""
    torch.manual_seed(0)
    names = tuple("0123456789")
    card = ModelCard(model="thin-resnet", shape=(3, 32, 32), mean=(0.5,) * 3, std=(0.25,) * 3, class_names=names)
    return build_model(card).to(memory_format=torch.channels_last)


def draw(size: int) -> Batch:
    """Random images and labels."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(size, 3, 32, 32, generator=generator).contiguous(memory_format=torch.channels_last)
    return Batch(torch.arange(size), x, torch.randint(10, (size,), generator=generator))


def reference_examples(model: nn.Module, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The published inner loop: the clean logits, with their graph, are computed anew in every step."""
    model.eval()
    criterion = nn.KLDivLoss(reduction="sum")
    x_adv = gaussian_start(x, generator)
    for _ in range(10):
        x_adv.requires_grad_()
        with torch.enable_grad():
            loss = criterion(F.log_softmax(model(x_adv), dim=1), F.softmax(model(x), dim=1))
        (grad,) = torch.autograd.grad(loss, [x_adv])
        x_adv = x_adv.detach() + EPS / 4 * torch.sign(grad.detach())
        x_adv = torch.clamp(torch.min(torch.max(x_adv, x - EPS), x + EPS), 0.0, 1.0)
    model.train()
    return x_adv


def reference_step(model: nn.Module, batch: Batch, generator: torch.Generator) -> torch.Tensor:
    """The published loss at those examples."""
    x_adv = reference_examples(model, batch.x, generator)
    clean = model(batch.x)
    robust = nn.KLDivLoss(reduction="sum")(F.log_softmax(model(x_adv), 1), F.softmax(model(batch.x), 1))
    return F.cross_entropy(clean, batch.y) + 6 * robust / len(batch.x)


def plain_pgd(model: nn.Module, batch: Batch, eps: float) -> torch.Tensor:
    """PGD-20 on every sample to the end; a sample that any iterate broke is broken, [B] bool."""
    x_adv = random_point(batch.x, batch.index, eps, "linf", 0, 0)
    broken = torch.zeros(len(batch.y), dtype=torch.bool)
    for step in range(21):
        x_adv = x_adv.detach().requires_grad_()
        logits = model(x_adv)
        broken |= logits.argmax(1) != batch.y
        if step == 20:
            break
        loss = F.cross_entropy(logits, batch.y, reduction="sum")
        (grad,) = torch.autograd.grad(loss, x_adv)
        x_adv = project(x_adv.detach() + eps / 4 * grad.sign(), batch.x, eps, "linf")
    return broken


def run() -> list[dict]:
    """Both ratios; what is compared gives the same examples, bit by bit, and the same outcomes."""
    model = network().train()
    batch = draw(128)
    objective = TRADES()

    def ours() -> None:
        model.zero_grad()
        objective(model, batch.x, batch.y, torch.Generator().manual_seed(2)).mean().backward()

    def theirs() -> None:
        model.zero_grad()
        reference_step(model, batch, torch.Generator().manual_seed(2)).backward()

    own = objective.perturb(model, batch.x, torch.Generator().manual_seed(2))
    same = torch.equal(own, reference_examples(model, batch.x, torch.Generator().manual_seed(2)))
    rows = [ratio("a TRADES step / the reference's, fp32, examples bit-identical", 0.78, ours, theirs, repeats=15)]
    rows[0]["identical"] = same
    model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    large = draw(256)
    with torch.no_grad():
        batch = Batch(large.index, large.x, model(large.x).argmax(1))

    def broken(eps: float) -> np.ndarray:
        with torch.no_grad():
            return (model(PGD(eps=eps)(model, batch.x, batch.y, batch.index)).argmax(1) != batch.y).numpy()

    eps = next(eps for eps in np.geomspace(1e-5, EPS, 40).tolist() if broken(eps).mean() >= 0.5)  # hardly half of them
    first = broken(eps)
    second = plain_pgd(model, batch, eps).numpy()
    rows.append(
        ratio(
            "PGD-20 / a plain loop, where it breaks hardly half",
            0.75,
            lambda: broken(eps),
            lambda: plain_pgd(model, batch, eps),
            repeats=9,
        )
    )
    rows[1] |= {"broken": float(first.mean()), "same_outcomes": bool((first == second).all())}
    assert same
    assert rows[1]["same_outcomes"]
    assert first.mean() >= 0.5
    return rows
