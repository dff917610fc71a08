"""Pictures with issues on a page, where a person decides what is left out and what gets another label."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from easycoreset import decisions


@dataclass(frozen=True)
class ReviewPicture:
    """A picture: part, id, label, digest of its content, a thumbnail, and a link to the original, "" where unknown."""

    part: str
    sample_id: str
    label: str
    digest: str
    thumbnail: bytes
    original: str = ""


@dataclass(frozen=True)
class ReviewIssue:
    """An issue of the picture at position `picture`, with a score in [0, 1]; `other` is the picture that it equals."""

    kind: str
    picture: int
    score: float
    suggestion: str | None = None
    other: int | None = None


@dataclass(frozen=True)
class Review:
    """Pictures to decide on.

    Attributes:
        data: name of the data set.
        fingerprint: of its training part; decisions are kept in the browser under it.
        class_names: the labels to choose from.
        kinds: kind of issue -> what it means.
        pictures: the pictures, each once.
        issues: the issues, in the order in which they are shown.
        earlier: decisions from before the audit, which its labels include already; they are saved with the new ones.
    """

    data: str
    fingerprint: str
    class_names: Sequence[str]
    kinds: Mapping[str, str]
    pictures: Sequence[ReviewPicture]
    issues: Sequence[ReviewIssue]
    earlier: Sequence[decisions.Decision] = ()


def review_json(review: Review) -> Markup:
    """The review as JSON for the page's script: no character of it can end the element."""
    value = {
        "format": decisions.FORMAT,
        "version": decisions.VERSION,
        "data": review.data,
        "fingerprint": review.fingerprint,
        "classes": list(review.class_names),
        "kinds": dict(review.kinds),
        "pictures": [_picture(picture) for picture in review.pictures],
        "earlier": [one.to_json() for one in review.earlier],
        "issues": [[i.kind, i.picture, round(i.score, 4), i.suggestion, i.other] for i in review.issues],
    }
    return script_json(value)


def script_json(value: Any) -> Markup:
    """JSON inside <script>."""
    text = json.dumps(value, allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def thumbnail_url(thumbnail: bytes) -> str:
    """A PNG or JPEG as a data URL."""
    kind = "png" if thumbnail.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(thumbnail).decode()}"


def _picture(picture: ReviewPicture) -> list[str]:
    facts = [picture.part, picture.sample_id, picture.label, picture.digest]
    return [*facts, thumbnail_url(picture.thumbnail), picture.original]
