"""The page: a document rendered into one HTML file that needs no network."""

import json
import math
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from easycoreset.documents import Document, Figure, format_value, sort_key


def render_page(document: Document) -> str:
    """Render a document as a page; all text is escaped, also in the JSON of figures."""
    environment = Environment(
        loader=PackageLoader("easycoreset.documents"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure_json"] = to_script_json
    environment.filters["cell"] = format_value
    environment.filters["sort_key"] = sort_key
    library = ""
    if any(section.figures for section in document.sections):
        from plotly.offline import get_plotlyjs

        library = Markup(get_plotlyjs().replace("</script", "<\\/script"))
    return environment.get_template("page.html").render(document=document, library=library)


def to_script_json(figure: Figure) -> Markup:
    """A figure as JSON that is safe inside <script>: no character of it can end the element."""
    text = json.dumps(_nan_to_null({"data": figure.traces, "layout": figure.layout}), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _nan_to_null(value: Any) -> Any:
    """Replace NaN and infinity, which JSON lacks, by null, which plotly leaves out."""
    if isinstance(value, dict):
        return {key: _nan_to_null(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_nan_to_null(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
