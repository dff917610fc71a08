"""The page: a document rendered into one HTML file that needs no network."""

import math
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from easycoreset.documents import Document, Figure, format_value, sort_key
from easycoreset.documents.review import review_json, script_json


def render_page(document: Document) -> str:
    """Render a document as a page; all text is escaped, also in the JSON of figures."""
    environment = Environment(
        loader=PackageLoader("easycoreset.documents"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure_json"] = figure_json
    environment.filters["review_json"] = review_json
    environment.filters["cell"] = format_value
    environment.filters["sort_key"] = sort_key
    library = ""
    if any(section.figures for section in document.sections):
        from plotly.offline import get_plotlyjs

        library = Markup(get_plotlyjs().replace("</script", "<\\/script"))
    return environment.get_template("page.html").render(document=document, library=library)


def figure_json(figure: Figure) -> Markup:
    """A figure as JSON for plotly."""
    return script_json(_nan_to_null({"data": figure.traces, "layout": figure.layout}))


def _nan_to_null(value: Any) -> Any:
    """Replace NaN and infinity, which JSON lacks, by null, which plotly leaves out."""
    if isinstance(value, dict):
        return {key: _nan_to_null(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_nan_to_null(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
