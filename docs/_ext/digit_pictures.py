"""The directive `easy-and-hard-digits`: the easiest and the hardest digits by AIGN, scored by the build."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from docutils import nodes
from docutils.parsers.rst import Directive
from PIL import Image

import easycoreset as ec
from easycoreset.reporting.score_report import encode_png_url

EPOCHS = 8
SHOWN = 8
SIDE = 56  # pixels


class EasyAndHardDigits(Directive):
    """Two rows of pictures, with their labels and AIGN."""

    def run(self) -> list[nodes.Node]:
        """The pictures as raw HTML."""
        with tempfile.TemporaryDirectory() as folder:
            scores = ec.score(data="digits", epochs=EPOCHS, out=Path(folder) / "run")
            order = np.argsort(scores["aign"])
            split = ec.open_source("digits").splits["train"]
            rows = (("easiest", order[:SHOWN]), ("hardest", order[::-1][:SHOWN]))
            text = "".join(
                f"<p>The {name}:</p><p>{''.join(_picture(split, scores, r) for r in found)}</p>" for name, found in rows
            )
        return [nodes.raw("", text, format="html")]


def _picture(split: Any, scores: ec.Scores, row: int) -> str:
    pixels = np.array(
        Image.fromarray(split.images.pixels[row, :, :, 0].numpy()).resize((SIDE, SIDE), Image.Resampling.NEAREST)
    )
    said = f"labelled {scores.labels[row]}, AIGN {scores['aign'][row]:.3f}"
    picture = f"<img src='{encode_png_url(pixels)}' alt='{said}' title='{said}'>"
    caption = f"{scores.labels[row]}: {scores['aign'][row]:.2g}"
    return f"<span class='digit'>{picture}<br>{caption}</span>"


def setup(app: Any) -> Mapping[str, Any]:
    """Register the directive."""
    app.add_directive("easy-and-hard-digits", EasyAndHardDigits)
    return {"version": "1", "parallel_read_safe": True}
