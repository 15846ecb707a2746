"""How the lines of a run are kept: checkpoints as plain compressed text, a finished run as columns.

Goes in: lines. Comes out: bytes, and from them the very same lines. The tokens and rounds of a run differ in a few fields only, so these
are stored column by column (small whole numbers as differences); whatever does not come back byte for byte is kept as text. Knows no
event but `token`, `round` and `done`, no database.
"""

from __future__ import annotations

import json
import lzma
import zlib
from collections.abc import Sequence
from typing import Any

TEXT, COLUMNS = "zlib-jsonl", "lzma-columns"
# A larger window costs 40 ms to set up; the other two suit digits.
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 20, "lc": 4, "pb": 0}]
COLUMNAR = ("token", "round")
STEPWISE = frozenset({"position", "index", "ms", "detail.round"})  # they grow from line to line
THOUSANDTHS = frozenset({"ms"})
FULL = "\x00the text of the tokens"  # stands for a `done` line's text that is its tokens' own


def pack(lines: Sequence[str]) -> tuple[str, bytes]:
    """Codec and bytes of one checkpoint."""
    return TEXT, zlib.compress("\n".join(lines).encode())


def pack_whole(lines: Sequence[str]) -> tuple[str, bytes]:
    """Codec and bytes of a finished run: as columns if these are smaller and give the same lines back, else as text."""
    data, plain = lzma.compress(dumped(_columns(lines)).encode(), lzma.FORMAT_RAW, filters=FILTERS), pack(lines)
    return (COLUMNS, data) if len(data) < len(plain[1]) and tuple(lines) == unpack(COLUMNS, data) else plain


def unpack(codec: str, data: bytes) -> tuple[str, ...]:
    """The lines again."""
    if codec == TEXT:
        return tuple(zlib.decompress(data).decode().split("\n"))
    return tuple(_lines(json.loads(lzma.decompress(data, lzma.FORMAT_RAW, filters=FILTERS))))


def dumped(value: Any) -> str:
    """JSON as the lines of a run have it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _columns(lines: Sequence[str]) -> dict[str, Any]:
    """`shapes`: which fields a token line has; `order`: a line each, the number of its shape or the text itself; `columns`: values."""
    shapes: list[list[str]] = []
    order: list[int | str] = []
    columns: dict[str, list[Any]] = {}
    texts: list[str] = []
    for line in lines:
        event = json.loads(line)
        if event.get("event") not in COLUMNAR or dumped(event) != line:
            order.append(_shortened(line, event, "".join(texts)))
            continue
        flat = {f"{event['event']} {name}": value for name, value in _flat(event).items()}
        texts += [event["text"]] if isinstance(event.get("text"), str) else []
        shape = list(flat)
        if shape not in shapes:
            shapes.append(shape)
        order.append(shapes.index(shape))
        for name, value in flat.items():
            columns.setdefault(name, []).append(value)
    return {"shapes": shapes, "order": order, "columns": {name: _differences(name, values) for name, values in columns.items()}}


def _lines(packed: dict[str, Any]) -> list[str]:
    columns = {name: iter(_sums(name, values)) for name, values in packed["columns"].items()}
    lines: list[str] = []
    texts: list[str] = []
    for entry in packed["order"]:
        if isinstance(entry, str):
            lines.append(entry.replace(dumped(FULL), dumped("".join(texts))))
            continue
        event = _nested({name.partition(" ")[2]: next(columns[name]) for name in packed["shapes"][entry]})
        texts += [event["text"]] if isinstance(event.get("text"), str) else []
        lines.append(dumped(event))
    return lines


def _shortened(line: str, event: dict[str, Any], text: str) -> str:
    """The last line without the text that its tokens already say."""
    is_last = event.get("event") == "done" and text and event.get("text") == text and dumped(event) == line
    return dumped({**event, "text": FULL}) if is_last else line


def _flat(event: dict[str, Any]) -> dict[str, Any]:
    """The fields of a line, those of a filled `detail` by a dotted name."""
    flat: dict[str, Any] = {}
    for name, value in event.items():
        if name == "detail" and isinstance(value, dict) and value:
            flat.update({f"detail.{inner}": v for inner, v in value.items()})
        else:
            flat[name] = value
    return flat


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    event: dict[str, Any] = {}
    for name, value in flat.items():
        if name.startswith("detail."):
            event.setdefault("detail", {})[name.removeprefix("detail.")] = value
        else:
            event[name] = value
    return event


def _differences(name: str, values: list[Any]) -> list[Any]:
    """Each number less the one before it, in whole units; any other column as it is."""
    name = name.partition(" ")[2]
    scale = 1000 if name in THOUSANDTHS else 1
    if name not in STEPWISE or not all(type(v) in (int, float) for v in values):
        return values
    whole = [round(v * scale) for v in values]
    return [whole[0], *(b - a for a, b in zip(whole, whole[1:], strict=False))]


def _sums(name: str, values: list[Any]) -> list[Any]:
    name = name.partition(" ")[2]
    if name not in STEPWISE or not all(type(v) is int for v in values):
        return values
    total, sums = 0, []
    for value in values:
        total += value
        sums.append(total / 1000 if name in THOUSANDTHS else total)
    return sums
