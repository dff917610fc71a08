"""The inner maximisation that adversarial objectives share."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from easycoreset.attacks.ball import project
from easycoreset.models.modes import frozen


def maximise_loss(
    model: nn.Module,
    x: Tensor,
    start: Tensor,
    loss: Callable[[Tensor], Tensor],
    *,
    eps: float,
    steps: int,
    step_size: float | None = None,
) -> Tensor:
    """Maximise a loss of the logits by signed gradient steps inside the linf ball and [0,1], in eval mode.

    Only the input gradient is computed, and misclassified samples stay in the batch: its shape is the same in every
    step.

    Args:
        model: in any mode, which is restored.
        x: [B,C,H,W], the centre of the ball.
        start: [B,C,H,W], the first iterate.
        loss: maps logits [B, classes] in float32 to a scalar, the sum over the batch.
        eps: radius of the ball.
        steps: number of steps.
        step_size: length of each step; None: eps / 4.
    """
    step_size = eps / 4 if step_size is None else step_size
    x_adv = start.detach()
    with frozen(model), torch.enable_grad():
        for _ in range(steps):
            x_adv.requires_grad_()
            (gradient,) = torch.autograd.grad(loss(model(x_adv).float()), x_adv)
            # project clips to [0,1] too
            x_adv = project(x_adv.detach() + step_size * gradient.sign(), x, eps, "linf")
    return x_adv.detach()


def gaussian_start(x: Tensor, generator: torch.Generator) -> Tensor:
    """The Gaussian start of TRADES and MART: x + 0.001 * N(0, 1)."""
    return x + 0.001 * torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


def uniform_start(x: Tensor, eps: float, generator: torch.Generator) -> Tensor:
    """A uniform random point of the linf ball, clipped to [0,1]."""
    noise = torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype) * 2 - 1
    return project(x + eps * noise, x, eps, "linf")
