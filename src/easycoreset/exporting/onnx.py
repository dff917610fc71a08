"""ONNX of a trained model."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from easycoreset.errors import RunError, UsageError
from easycoreset.files import write_new
from easycoreset.models.card import read_card
from easycoreset.models.saved import load_model
from easycoreset.options import ExportOptions

CLOSE = 1e-4  # of the largest logit


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Nothing of what the exporter says of itself reaches the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), _no_warnings():
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


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
    network = load_model(options.source, options.model)
    card = read_card(options.source)
    images = torch.rand(3, *card.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(images).numpy()
        again = network(images).numpy()

    def write(path: Path) -> None:
        try:
            with _quietly():
                torch.onnx.export(
                    network,
                    (images[:2],),
                    str(path),
                    input_names=["images"],
                    output_names=["logits"],
                    dynamo=True,
                    dynamic_shapes=({0: torch.export.Dim("batch")},),
                    external_data=False,
                    verbose=False,
                )
                (found,) = ReferenceEvaluator(load(str(path))).run(None, {"images": images.numpy()})
        except Exception as error:  # the exporter and the evaluator raise almost anything
            said = (str(error).strip().splitlines() or [""])[0]
            raise RunError(
                f"{options.out}: the model cannot be written as ONNX: {type(error).__name__}: {said}"
            ) from None
        if np.shape(found) != expected.shape:
            shapes = f"{np.shape(found)} for 3 images, not {expected.shape}"
            raise RunError(f"{options.out}: the exported model gives {shapes}: does it go by the size of its batch?")
        off = float(np.abs(np.asarray(found) - expected).max() / max(np.abs(expected).max(), 1e-12))
        if not off < CLOSE:
            random = float(np.abs(again - expected).max() / max(np.abs(expected).max(), 1e-12))
            why = f" (the model's own differ by {random:.2g} from pass to pass)" if random > 0 else ""
            raise RunError(f"{options.out}: the exported model's logits differ by {off:.2g} of the largest{why}")

    write_new(options.out, write)
