"""Decisions about pictures, as an audit's page writes them: which are left out, and which get another label."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easycoreset.errors import UsageError, quote, require, suggest_name
from easycoreset.files import read_json
from easycoreset.schemas import check_record

FORMAT = "easycoreset decisions"  # name of the format in the file that the page writes
VERSION = 1
DECIDED = "decided.json"  # in an audit's folder: the decisions with which its data were read
DECISION = {"part": str, "sample_id": str, "digest": str, "label": str, "leave_out?": bool, "right_label?": str}
SCHEMA = {"format": {FORMAT}, "version": int, "data?": str, "fingerprint?": str, "decisions": [DECISION]}


@dataclass(frozen=True)
class Decision:
    """What was decided about one picture.

    Attributes:
        part: train or test.
        sample_id: its id.
        digest: the digest of its content at the time of the decision.
        label: the name of its label at that time.
        leave_out: whether it is left out.
        right_label: the name of its right label; None to keep its label.
    """

    part: str
    sample_id: str
    digest: str
    label: str
    leave_out: bool = False
    right_label: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The decision as a file of decisions holds it."""
        facts = {"part": self.part, "sample_id": self.sample_id, "digest": self.digest, "label": self.label}
        right = {} if self.right_label is None else {"right_label": self.right_label}
        return facts | ({"leave_out": True} if self.leave_out else {}) | right


def is_decisions(content: Any) -> bool:
    """Whether the content of a JSON file is meant to be decisions."""
    return isinstance(content, dict) and content.get("format") == FORMAT


def read_decisions(path: Path) -> list[Decision]:
    """Read the decisions of a file.

    Raises:
        UsageError: the file is missing, is no file of decisions or a newer one, or decides twice about a picture.
    """
    require(
        path.suffix != ".csv", "decisions", "the file that `save decisions` on the page writes, not its CSV", str(path)
    )
    content = read_json(path)
    if not is_decisions(content):
        raise UsageError(f"decisions: {path} is not a file of decisions that an audit's page saved")
    check_record(content, SCHEMA, f"decisions: {path}")
    if content["version"] != VERSION:
        raise UsageError(f"decisions: {path} is of version {content['version']}; this easycoreset reads {VERSION}")
    known = Decision.__annotations__
    for number, line in enumerate(content["decisions"]):
        where = f"decisions: {path}: decisions[{number}]"
        if unknown := next((name for name in line if name not in known), None):
            raise UsageError(f"{where} has the unknown key {quote(unknown)}: {suggest_name(unknown, known)}")
        if not line.get("leave_out") and "right_label" not in line:
            raise UsageError(f'{where} decides nothing: give "leave_out": true or "right_label"')
    decisions = [Decision(**line) for line in content["decisions"]]
    seen = set[tuple[str, str]]()
    for decision in decisions:
        key = (decision.part, decision.sample_id)
        if key in seen:
            raise UsageError(f"decisions: {path} decides twice about {decision.sample_id!r}")
        seen.add(key)
    return decisions
