"""Ways to spoil a file: bits, cuts, sizes, and for text that has a structure its values, names and depth."""

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

Way = Callable[[bytes, random.Random], bytes]
EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**40, 2**63 - 1, 2**64 - 1)
ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1.5,
    1e308,
    float("nan"),
    float("inf"),
    2**64,
    10**400,
    "",
    "x" * 5000,
    "../../etc/passwd",
    "\x1b[2J",
    "\ud800",
    "=1+1",
    [],
    {},
    [[]],
    {"a": {"b": 1}},
    [None],
    ["a", 1],
    [1] * 5000,
)


def spoil(file: Path, rng: random.Random) -> None:
    """Spoil a file in place, in one way or in several."""
    content = file.read_bytes()
    structured = file.suffix in (".json", ".jsonl") or file.name.endswith(".written")
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        ways = (*BYTES, *STRUCTURED * 3) if structured else (*BYTES, *TABLES) if file.suffix == ".parquet" else BYTES
        content = rng.choice(ways)(content, rng)
    file.write_bytes(content)


def flip_bits(content: bytes, rng: random.Random) -> bytes:
    """Some bits, wherever they are."""
    spoilt = bytearray(content)
    for _ in range(rng.choice((1, 2, 8, 64)) if spoilt else 0):
        place = rng.randrange(len(spoilt))
        spoilt[place] ^= 1 << rng.randrange(8)
    return bytes(spoilt)


def truncate(content: bytes, rng: random.Random) -> bytes:
    """The beginning alone."""
    return content[: rng.randrange(len(content) + 1)]


def append(content: bytes, rng: random.Random) -> bytes:
    """Something more at the end."""
    return content + rng.randbytes(rng.choice((1, 16, 4096)))


def cut_out(content: bytes, rng: random.Random) -> bytes:
    """Without a piece in the middle, or with one twice."""
    first, last = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return content[:first] + (content[last:] if rng.random() < 0.5 else content[first:last] * 2 + content[last:])


def declare(content: bytes, rng: random.Random) -> bytes:
    """Another number where one may stand, mostly in the head or at the end, where sizes are declared."""
    spoilt = bytearray(content)
    if len(spoilt) < 16:
        return content
    head = min(len(spoilt) - 8, 512)
    place = rng.choice((rng.randrange(head), len(spoilt) - 8 - rng.randrange(head), rng.randrange(len(spoilt) - 8)))
    number = rng.choice(EXTREMES)
    form = rng.choice(("<I", ">I", "<Q", "<H", ">H", "B"))
    struct.pack_into(form, spoilt, max(place, 0), number % 256 ** struct.calcsize(form))
    return bytes(spoilt)


def change_digits(content: bytes, rng: random.Random) -> bytes:
    """A number that is written in digits becomes another, as in the head of an array."""
    places = [place for place, byte in enumerate(content[:4096]) if 48 <= byte < 58]
    if not places:
        return content
    place = rng.choice(places)
    return (
        content[:place] + rng.choice((b"9", b"99999999999", b"-1", b"0", b"1e9", b"[", b"'O'")) + content[place + 1 :]
    )


def empty(content: bytes, rng: random.Random) -> bytes:
    """Nothing, or nothing but zeros or noise."""
    return rng.choice((b"", bytes(len(content)), rng.randbytes(len(content))))


def change_value(content: bytes, rng: random.Random) -> bytes:
    """One value of a JSON text becomes an odd one, or goes."""

    def change(value: Any) -> Any:
        keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
        if not keys or rng.random() < 0.15:
            return rng.choice(ODD)
        key = rng.choice(keys)
        if rng.random() < 0.1:
            del value[key]
        else:
            value[key] = change(value[key])
        return value

    return _each_text(content, rng, lambda value: json.dumps(change(value)))


def repeat_name(content: bytes, rng: random.Random) -> bytes:
    """A name twice in an object, the second time with an odd value."""

    def repeat(value: Any) -> str:
        text = json.dumps(value)
        name = rng.choice(list(value)) if isinstance(value, dict) and value else "a"
        return text[:-1] + f", {json.dumps(name)}: {json.dumps(rng.choice(ODD))}}}" if text.endswith("}") else text

    return _each_text(content, rng, repeat)


def nest(content: bytes, rng: random.Random) -> bytes:
    """A value nested as deep as nobody means it."""
    depth = rng.choice((50, 1000, 100_000))
    return _each_text(
        content, rng, lambda value: json.dumps(value)[:-1] + ', "deep": ' + "[" * depth + "]" * depth + "}"
    )


def _each_text(content: bytes, rng: random.Random, change: Callable[[Any], str]) -> bytes:
    """Change a JSON text, or one of its lines."""
    try:
        return change(json.loads(content)).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        lines = content.decode("utf-8", "replace").splitlines()
    if not lines:
        return content
    row = rng.randrange(len(lines))
    try:
        lines[row] = change(json.loads(lines[row]))
    except (ValueError, RecursionError):
        return content
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def change_table(content: bytes, rng: random.Random) -> bytes:
    """A column of a Parquet table twice, gone, of another type, with gaps, or other metadata; as anybody could write it."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(content))
        table.column_names  # noqa: B018 - may be no text
    except Exception:
        return content
    name = rng.choice(table.column_names or ["a"])
    rows = table.num_rows
    others: list[Any] = [
        pa.array(["x"] * rows),
        pa.array([None] * rows, pa.int64()),
        pa.array([-5] * rows),
        pa.array([2**62] * rows),
        pa.array([float("nan")] * rows),
        pa.array([[1]] * rows),
        pa.array([{"a": 1}] * rows),
        pa.array([True] * rows),
        pa.array([b"\xff"] * rows),
        pa.array(["\x1b[2J"] * rows).dictionary_encode(),
        pa.array([2**64 - 1] * rows, pa.uint64()),
        pa.array([None] * rows),
        pa.array([0] * rows, pa.int8()),
    ]
    column = rng.choice(others)
    if name in table.column_names and rng.random() < 0.7:
        table = table.set_column(table.column_names.index(name), name, column)
    elif rng.random() < 0.5:
        table = table.append_column(name, column)
    elif rng.random() < 0.5 and table.num_columns:
        table = table.drop_columns([table.column_names[0]])
    else:
        table = table.slice(0, rng.choice((0, 1, rows // 2)))
    if rng.random() < 0.4:
        metadata = dict(table.schema.metadata or {})
        text = metadata.get(b"easycoreset", b"{}")
        metadata[b"easycoreset"] = rng.choice((change_value, nest, repeat_name))(text, rng)
        table = table.replace_schema_metadata(metadata)
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


BYTES: tuple[Way, ...] = (flip_bits, flip_bits, truncate, append, cut_out, declare, declare, change_digits, empty)
STRUCTURED: tuple[Way, ...] = (change_value, change_value, change_value, repeat_name, nest)
TABLES: tuple[Way, ...] = (change_table,) * 6
