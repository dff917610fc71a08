"""ONNX of a trained model."""

from pathlib import Path

import numpy as np
import torch

from easycoreset.errors import RunError, UsageError
from easycoreset.files import write_new
from easycoreset.models.card import read_card
from easycoreset.models.saved import load_model
from easycoreset.options import ExportOptions

CLOSE = 1e-4  # of the largest logit


def write_onnx(options: ExportOptions) -> None:
    """A trained model, images [B,C,H,W] in [0,1] to logits for any B, which is run and compared before it has its name.

    Raises:
        UsageError: the folder holds no model, or the extra `onnx` is missing.
        RunError: the exported model does not give the model's logits.
    """
    try:
        from onnx import load
        from onnx.reference import ReferenceEvaluator
    except ImportError:
        raise UsageError("format onnx needs onnx: pip install easycoreset[onnx]") from None
    network, card = load_model(options.source, options.model), read_card(options.source)
    images = torch.rand(3, *card.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(images).numpy()

    def write(path: Path) -> None:
        batch = torch.export.Dim("batch")
        torch.onnx.export(network, (images[:2],), str(path), input_names=["images"], output_names=["logits"],
                          dynamo=True, dynamic_shapes=({0: batch},), external_data=False, verbose=False)  # fmt: skip
        (found,) = ReferenceEvaluator(load(str(path))).run(None, {"images": images.numpy()})
        off = float(np.abs(np.asarray(found) - expected).max() / max(np.abs(expected).max(), 1e-12))
        if not off < CLOSE:
            raise RunError(f"{options.out}: the exported model's logits differ by {off:.2g} of the largest")

    write_new(options.out, write)
