"""Results on standard output: the brief sections of a document, or one JSON object."""

import json
from collections.abc import Sequence
from typing import Any

from easycoreset.documents import Section
from easycoreset.documents.terminal import print_line, print_sections


class Output:
    """The output format of results."""

    as_json: bool = False


def show(value: dict[str, Any], sections: Sequence[Section], *lines: object) -> None:
    """Show a result: `value` as JSON if that is the output format, else the sections and the lines."""
    if Output.as_json:
        print(json.dumps(value, indent=1))
        return
    print_sections(sections)
    for line in lines:
        print_line(line)
