"""The figures of a comparison as SVG and PDF, for a paper."""

import re
from typing import Any

from easycoreset.errors import RunError, UsageError
from easycoreset.exporting.output_folders import check_replaceable, new_output_folder
from easycoreset.members import load_attribute
from easycoreset.options import ExportOptions

WIDTH, HEIGHT = 640, 420  # pixels
DRAW = "easycoreset.reporting.notebook:draw_comparison"  # loaded by name, since this module must not import it


def write_figures(options: ExportOptions) -> None:
    """Write every figure of a comparison's page as `NUMBER-SECTION.svg` and `.pdf`, and `captions.md`.

    They are drawn by kaleido, in a Chrome or Chromium of this machine; nothing is downloaded.

    Raises:
        UsageError: the extra `figures` or a browser is missing.
        RunError: a figure cannot be drawn.
    """
    check_replaceable(options.out)
    try:
        import kaleido
    except ImportError:
        raise UsageError("format figures needs kaleido: pip install easycoreset[figures]") from None
    figures: list[tuple[str, Any]] = load_attribute("figures", DRAW)(options.source)
    captions: list[str] = []
    with new_output_folder(options.out, "figures", {"source": str(options.source)}) as folder:
        paths: list[str] = []
        for number, (section, figure) in enumerate(figures, 1):
            name = f"{number:02d}-{re.sub(r'[^a-z0-9]+', '-', section.lower()).strip('-')}"
            captions.append(f"- `{name}`: {figure.layout.title.text}")
            figure.update_layout(title=None, template="plotly_white", margin={"l": 60, "r": 20, "t": 20, "b": 50})
            paths.append(str(folder / name))
        drawn = [figure for _, figure in figures]
        try:
            for form in ("svg", "pdf"):
                options_of = {"format": form, "width": WIDTH, "height": HEIGHT}
                kaleido.write_fig_from_object_sync(
                    [
                        {"fig": figure, "path": f"{path}.{form}", "opts": options_of}
                        for figure, path in zip(drawn, paths, strict=True)
                    ]
                )
        except Exception as error:  # a browser may fail in any way
            reason = " ".join(str(error).split())
            if "chrome" in f"{type(error).__name__} {reason}".lower():
                raise UsageError("format figures needs Chrome or Chromium on this machine (chromium)") from None
            raise RunError(f"the figures cannot be drawn: {type(error).__name__}: {reason}") from None
        (folder / "captions.md").write_text("\n".join(captions) + "\n", encoding="utf-8")
