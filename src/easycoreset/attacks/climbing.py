"""Attacks climb in bf16 and are judged in float32."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from easycoreset.attacks.ball import per_sample_view
from easycoreset.models.last_layer import float32_logits
from easycoreset.models.modes import Bf16Autocast

JUDGE_EVERY = 5  # steps between two judgements, each of which is a forward pass in float32


@contextlib.contextmanager
def climber(model: nn.Module, x: Tensor) -> Iterator[nn.Module]:
    """Yield a model in bf16, from which an attack takes its gradients; `x` are a few inputs."""
    with float32_logits(model, x):
        yield Bf16Autocast(model)


class Judge:
    """Decides which samples are broken, in float32.

    For a float32 model, the logits of each step decide. For a model from `climber`, its float32 version decides every
    `JUDGE_EVERY` steps and at the last step; between these steps the latest iterate of each sample that is broken in
    bf16 is remembered, or else its latest iterate. The last iterate is always judged.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model.model if isinstance(model, Bf16Autocast) else None
        self._steps = 0
        self._iterate: Tensor | None = None
        self._suspected: Tensor | None = None

    def look(self, x_adv: Tensor, logits: Tensor, y: Tensor, last: bool) -> tuple[Tensor, Tensor] | None:
        """Look at the iterates of a step.

        Args:
            x_adv: [B,C,H,W].
            logits: [B, classes], the logits of `x_adv`.
            y: [B] int64.
            last: whether it is the last step.

        Returns:
            The iterates that are judged, and which of them are broken, [B]; None in a step without a judgement.
        """
        broken = logits.argmax(1) != y
        if self._model is None:
            return x_adv, broken
        latest = x_adv
        if self._iterate is not None and self._suspected is not None:
            x_adv = torch.where(per_sample_view(broken | ~self._suspected), x_adv, self._iterate)
            broken = broken | self._suspected
        self._steps += 1
        if self._steps % JUDGE_EVERY and not last:
            self._iterate, self._suspected = x_adv, broken
            return None
        self._iterate = self._suspected = None
        with torch.no_grad():
            broken = self._model(x_adv).argmax(1) != y
            if not last or x_adv is latest:
                return x_adv, broken
            at_the_end = self._model(latest).argmax(1) != y
        return torch.where(per_sample_view(at_the_end), latest, x_adv), broken | at_the_end

    def keep(self, rows: Tensor) -> None:
        """Keep only the rows `rows` [n] of the batch."""
        if self._iterate is not None and self._suspected is not None:
            self._iterate, self._suspected = self._iterate[rows], self._suspected[rows]
