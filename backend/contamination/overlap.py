"""How much of an item stands, word for word, in a text that somebody trained on.

Goes in: a corpus as text, items, a length n in words. Comes out: for each item the share of its word n-grams that occur. Catches copies and
nothing else: a rephrased or translated item has no overlap. Knows nothing of models.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Lower-case runs of letters and digits; punctuation and spacing don't count."""
    return WORD.findall(text.lower())


def grams(text: str, n: int) -> set[int]:
    """The hashes of all runs of `n` words."""
    found = words(text)
    return {hash(tuple(found[i : i + n])) for i in range(len(found) - n + 1)}


def overlaps(corpus: str, texts: Sequence[str], n: int) -> list[float]:
    """The share of each text's n-grams that the corpus holds, 0 to 1; a text of fewer than `n` words is looked for as a whole."""
    kept: dict[int, set[int]] = {}
    found = []
    for text in texts:
        size = min(n, len(words(text)))
        if size not in kept:
            kept[size] = grams(corpus, size) if size else set()
        own = grams(text, size) if size else set()
        found.append(sum(gram in kept[size] for gram in own) / len(own) if own else 0.0)
    return found
