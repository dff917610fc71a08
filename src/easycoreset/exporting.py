"""Handing results over in the forms that others read."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from easycoreset.console import say_eps
from easycoreset.errors import RunError, UsageError
from easycoreset.files import read_json, write_atomic, write_json
from easycoreset.models.card import read_card
from easycoreset.models.saved import load_model
from easycoreset.options import ExportOptions, takes

CLOSE = 1e-4  # of the largest logit


@takes(ExportOptions)
def export(options: ExportOptions) -> Path:
    """Write what `source` holds in another form to the file `out`.

    robustbench: the model information of RobustBench, from a folder that `evaluate` wrote with AutoAttack. onnx: a
    trained model, images [B,C,H,W] in [0,1] to logits, which is run and compared before the file has its name.

    Returns:
        The file.

    Raises:
        UsageError: the source does not hold what the form needs.
    """
    if options.format == "onnx":
        write_onnx(options.source, options.out, options.model)
    else:
        write_json(options.out, describe_for_robustbench(options.source))
    return options.out


def write_onnx(folder: Path, out: Path, model: str | None = None) -> None:
    """Write a trained model as ONNX, with any batch size, and run it on random images.

    Raises:
        UsageError: the folder holds no model, or the extra `onnx` is missing.
        RunError: the exported model does not give the model's logits.
    """
    try:
        from onnx import load
        from onnx.reference import ReferenceEvaluator
    except ImportError:
        raise UsageError("format onnx needs onnx: pip install easycoreset[onnx]") from None
    network, card = load_model(folder, model), read_card(folder)
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
            raise RunError(f"{out}: the exported model's logits differ by {off:.2g} of the largest")

    write_atomic(out, write)


def describe_for_robustbench(folder: Path) -> dict[str, Any]:
    """RobustBench's model information: accuracies in percent as strings, what only the authors know left null.

    Raises:
        UsageError: no evaluation, or none by AutoAttack at one eps in linf or l2.
    """
    record = read_json(folder / "evaluation.json")
    summary = record.get("summary", {})
    lines = [line for line in summary.get("attacked", []) if line["attack"].split(":")[0] == "autoattack"]
    if len(lines) != 1 or lines[0]["attack"] != "autoattack":
        found = ", ".join(f"{line['attack']} at {say_eps(line['eps'])}" for line in lines) or "none"
        raise UsageError(
            f"{folder}: robustbench needs an evaluation by the standard autoattack at one eps; it holds {found}"
        )
    (line,), warnings = lines, summary["warnings"]
    return {
        "link": None,
        "name": None,
        "authors": None,
        "additional_data": False,
        "number_forward_passes": 1,
        "dataset": summary["data"].split(":")[0],
        "venue": None,
        "architecture": summary.get("model"),
        "threat_model": "Linf" if line["norm"] == "linf" else "L2",
        "eps": say_eps(line["eps"]),
        "clean_acc": f"{100 * summary['clean']['accuracy']:.2f}",
        "reported": None,
        "autoattack_acc": f"{100 * line['accuracy']:.2f}",
        "unreliable": bool(warnings),
        "footnote": "; ".join([f"measured on {line['samples']} samples of {summary['split']}", *warnings]),
    }
