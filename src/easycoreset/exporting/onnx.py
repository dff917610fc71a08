"""Export of a trained model to ONNX."""

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

MAX_RELATIVE_DIFFERENCE = 1e-4  # relative to the largest logit


@contextlib.contextmanager
def _silence_output() -> Iterator[None]:
    """Keep the exporter's logs, warnings and prints from the terminal."""
    previous_level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), _ignore_warnings():
            yield
    finally:
        logging.disable(previous_level)


@contextlib.contextmanager
def _ignore_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def write_onnx(options: ExportOptions) -> None:
    """Write a trained model (images [B,C,H,W] in [0,1] to logits, any B), and compare its logits with PyTorch's first.

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
        repeated = network(images).numpy()

    def write(path: Path) -> None:
        try:
            with _silence_output():
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
                (logits,) = ReferenceEvaluator(load(str(path))).run(None, {"images": images.numpy()})
        except Exception as error:  # the exporter and the evaluator raise almost anything
            message = (str(error).strip().splitlines() or [""])[0]
            raise RunError(
                f"{options.out}: the model cannot be written as ONNX: {type(error).__name__}: {message}"
            ) from None
        if np.shape(logits) != expected.shape:
            shapes = f"{np.shape(logits)} for 3 images, not {expected.shape}"
            raise RunError(f"{options.out}: the exported model gives {shapes}: does it depend on the batch size?")
        difference = float(np.abs(np.asarray(logits) - expected).max() / max(np.abs(expected).max(), 1e-12))
        if not difference < MAX_RELATIVE_DIFFERENCE:
            variation = float(np.abs(repeated - expected).max() / max(np.abs(expected).max(), 1e-12))
            reason = f" (PyTorch's differ by {variation:.2g} between two passes)" if variation > 0 else ""
            shown = f"{difference:.2g} of the largest"
            raise RunError(f"{options.out}: the exported model's logits differ by {shown}{reason}")

    write_new(options.out, write)
