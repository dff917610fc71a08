"""Published weights of torchvision's and timm's models, downloaded by these libraries."""

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

TIMEOUT_SECONDS = 10  # without an answer, after which a server counts as unreachable
CACHE_FILES = ("model.safetensors", "pytorch_model.bin")


def load_published_state(card: ModelCard) -> dict[str, Tensor]:
    """The published weights of the network that a card names; without the head if it has other classes.

    Raises:
        UsageError: another kind of model, no published weights, or weights that cannot be fetched.
    """
    library, _, name = card.model.partition(":")
    if library not in ("torchvision", "timm"):
        raise UsageError(
            f"init: pretrained is for torchvision:NAME and timm:NAME; got model {quote(card.model)} (init "
            "also takes a trained model's folder, or a file of weights)"
        )
    log.info("init: published weights of %s are fetched where they are not cached", card.model)
    try:
        with torch.random.fork_rng(devices=[]), _short_timeout():
            state, head, published_classes = (
                _load_torchvision(name) if library == "torchvision" else _load_timm(name, card)
            )
    except Exception as error:  # the connection and the libraries raise almost anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"init: the published weights of {card.model} cannot be fetched: {reason}") from None
    classes = len(card.class_names)
    if published_classes == classes:
        return state
    log.info(
        "init: the published weights have %d classes, the data %d: %s starts from random weights",
        published_classes,
        classes,
        ", ".join(head),
    )
    return {key: value for key, value in state.items() if not key.startswith(tuple(f"{layer}." for layer in head))}


def _load_torchvision(name: str) -> tuple[dict[str, Tensor], list[str], int]:
    """The weights, the names of the layers that give the logits, and the number of classes."""
    from torchvision import models

    network = models.get_model(name, weights="DEFAULT", progress=False)
    layers = [key for key, layer in network.named_modules() if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d)]
    classes = len(models.get_model_weights(name)["DEFAULT"].meta["categories"])
    state = network.state_dict()
    return state, [key for key in layers if len(state[f"{key}.weight"]) == classes], classes


def _load_timm(name: str, card: ModelCard) -> tuple[dict[str, Tensor], list[str], int]:
    import timm

    config: Any = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if config is None or not config.has_weights:
        raise ValueError("none are published")
    if config.hf_hub_id:
        _check_hub_reachable(config.hf_hub_id, config.hf_hub_filename)
    channels, *size = card.shape
    fixed: dict[str, Any] = {"img_size": tuple(size)} if config.fixed_input_size else {}
    network = timm.create_model(name, pretrained=True, num_classes=len(card.class_names), in_chans=channels, **fixed)
    classifier: Any = config.classifier or ()
    head = [classifier] if isinstance(classifier, str) else [str(layer) for layer in classifier]
    return network.state_dict(), head, config.num_classes


def _check_hub_reachable(repo: str, file: str | None) -> None:
    """If nothing is cached, check once that the hub answers: a download would retry for a minute."""
    import huggingface_hub as hub

    if not any(
        isinstance(hub.try_to_load_from_cache(repo, name), str) for name in (file or CACHE_FILES[0], *CACHE_FILES)
    ):
        hub.get_hf_file_metadata(hub.hf_hub_url(repo, "config.json"), timeout=TIMEOUT_SECONDS)


@contextlib.contextmanager
def _short_timeout() -> Iterator[None]:
    """Use a short timeout for unreachable servers, and silence the libraries' messages about them."""
    before = socket.getdefaulttimeout()
    level = logging.getLogger("huggingface_hub").level
    socket.setdefaulttimeout(TIMEOUT_SECONDS)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        socket.setdefaulttimeout(before)
        logging.getLogger("huggingface_hub").setLevel(level)
