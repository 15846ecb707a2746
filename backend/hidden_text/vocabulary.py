"""Which tokens a scan forces: every id once, the same bytes only once.

Goes in: a tokenizer and the width of the logits. Comes out: the ids to force, and why the others are left out. Knows nothing of models.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True)
class Vocabulary:
    """`ids` in their order; `special` and `padding` (rows without a token) are not forced, nor is `repeated` (bytes another id has too)."""

    ids: tuple[int, ...]
    special: tuple[int, ...]
    padding: tuple[int, ...]
    repeated: tuple[int, ...]
    width: int


def read_vocabulary(tokenizer: Any, width: int) -> Vocabulary:
    """The ids below `width` in four groups."""
    special = set(tokenizer.all_special_ids) | {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    to_bytes = byte_reader(tokenizer)
    ids: list[int] = []
    padding, repeated, seen = [], [], set()
    for token_id, token in enumerate(tokenizer.convert_ids_to_tokens(list(range(width)))):
        if token is None:
            padding.append(token_id)
        elif token_id not in special:
            said = to_bytes(token)
            (repeated if said in seen else ids).append(token_id)
            seen.add(said)
    return Vocabulary(tuple(ids), tuple(sorted(i for i in special if i < width)), tuple(padding), tuple(repeated), width)


def byte_reader(tokenizer: Any) -> Any:
    """How a token's string is read as bytes: byte-level alphabets, byte tokens, or plain words with a visible blank."""
    table = byte_alphabet()

    def read(token: str) -> bytes:
        byte = BYTE.fullmatch(token)
        if byte:
            return bytes([int(byte.group(1), 16)])
        if level and all(c in table for c in token):
            return bytes(table[c] for c in token)
        return token.replace("\u2581", " ").encode()

    backend = getattr(tokenizer, "backend_tokenizer", None)
    level = backend is not None and "ByteLevel" in str(backend.decoder)
    return read


def byte_alphabet() -> dict[str, int]:
    """The printable stand-ins of a byte-level vocabulary (Radford et al. 2019): printable bytes stand for themselves, the rest follow at 256."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(hidden)}
