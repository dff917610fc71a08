"""Sphinx's configuration: `make docs` builds the site into docs/_build/html."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "easycoreset"
author = "The easycoreset developers"
copyright = author
version = release = installed_version("easycoreset")

extensions = [
    "myst_parser",
    "reference_pages",
    "result_figures",
    "digit_pictures",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the fields' types stand in the docstrings
autodoc_preserve_defaults = True
napoleon_use_rtype = False
suppress_warnings = ["misc.highlighting_failure"]
nitpicky = False
smartquotes = False
default_role = "code"  # of docstrings, whose single backticks are code

html_theme = "furo"
html_title = "easycoreset"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_search_summary = False  # a page from a file cannot read the others
html_show_sourcelink = False
copybutton_prompt_text = r"\$ "
copybutton_prompt_is_regexp = True
