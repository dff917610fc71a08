"""Published weights of torchvision's and timm's models, by their own download."""

import contextlib
import io
import logging
import socket
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from easycoreset.console import log
from easycoreset.errors import UsageError, quote
from easycoreset.models.card import ModelCard

SECONDS = 10  # without an answer, after which a server counts as out of reach
CACHED = ("model.safetensors", "pytorch_model.bin")


def published_state(card: ModelCard) -> dict[str, Tensor]:
    """The published weights of the bare network that a card names, without its head where that has other classes.

    Raises:
        UsageError: another kind of model, none are published, or they cannot be fetched.
    """
    kind, _, name = card.model.partition(":")
    if kind not in ("torchvision", "timm"):
        raise UsageError(
            f"init: pretrained is for torchvision:NAME and timm:NAME; got model {quote(card.model)} (init "
            "also takes a trained model's folder, or a file of weights)"
        )
    log.info("init: published weights of %s are fetched where they are not cached", card.model)
    try:
        with torch.random.fork_rng(devices=[]), _quick():
            state, head, published = _of_torchvision(name) if kind == "torchvision" else _of_timm(name, card)
    except Exception as error:  # the network and the libraries raise almost anything
        said = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"init: the published weights of {card.model} cannot be fetched: {said}") from None
    classes = len(card.class_names)
    if published == classes:
        return state
    log.info(
        "init: the published weights are of %d classes, the data of %d: %s is new", published, classes, ", ".join(head)
    )
    return {key: value for key, value in state.items() if not key.startswith(tuple(f"{layer}." for layer in head))}


def _of_torchvision(name: str) -> tuple[dict[str, Tensor], list[str], int]:
    """The weights, the layers that give the logits, and how many classes."""
    from torchvision import models

    network = models.get_model(name, weights="DEFAULT", progress=False)
    linear = [key for key, layer in network.named_modules() if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d)]
    classes = len(models.get_model_weights(name)["DEFAULT"].meta["categories"])
    state = network.state_dict()
    return state, [key for key in linear if len(state[f"{key}.weight"]) == classes], classes


def _of_timm(name: str, card: ModelCard) -> tuple[dict[str, Tensor], list[str], int]:
    import timm

    facts: Any = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if facts is None or not facts.has_weights:
        raise ValueError("none are published")
    if facts.hf_hub_id:
        _reach_hub(facts.hf_hub_id, facts.hf_hub_filename)
    channels, *size = card.shape
    fixed: dict[str, Any] = {"img_size": tuple(size)} if facts.fixed_input_size else {}
    network = timm.create_model(name, pretrained=True, num_classes=len(card.class_names), in_chans=channels, **fixed)
    named: Any = facts.classifier or ()
    head = [named] if isinstance(named, str) else [str(layer) for layer in named]
    return network.state_dict(), head, facts.num_classes


def _reach_hub(repo: str, file: str | None) -> None:
    """Ask once whether the hub answers, where nothing is cached: a download would try for a minute."""
    import huggingface_hub as hub

    if not any(isinstance(hub.try_to_load_from_cache(repo, name), str) for name in (file or CACHED[0], *CACHED)):
        hub.get_hf_file_metadata(hub.hf_hub_url(repo, "config.json"), timeout=SECONDS)


@contextlib.contextmanager
def _quick() -> Iterator[None]:
    """Let a server that is out of reach be found out soon, and the libraries be silent about it."""
    before = socket.getdefaulttimeout()
    level = logging.getLogger("huggingface_hub").level
    socket.setdefaulttimeout(SECONDS)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        socket.setdefaulttimeout(before)
        logging.getLogger("huggingface_hub").setLevel(level)
