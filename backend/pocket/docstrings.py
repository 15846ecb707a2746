"""Real English that every machine has: what Python's standard library says of itself.

Goes in: the library's folder. Comes out: paragraphs of plain sentences. Reads source text, imports and runs nothing of it. The texts depend on
the Python at hand; whoever trains on them notes its version. Knows nothing of models or tokens.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "lib2to3", "turtledemo", "__pycache__", "encodings"}
PLAIN = re.compile(r"[A-Z][A-Za-z0-9 ,;:'()/-]{25,260}[.!?]")  # a sentence of words; signatures, tables and code are not
LONGEST = 400  # characters of a paragraph


def paragraphs(folder: Path | None = None) -> tuple[str, ...]:
    """The plain sentences of each docstring of a library, by default the running Python's, each text once; files in the order of their names."""
    root = Path(os.__file__).parent if folder is None else folder
    files = (path for path in sorted(root.rglob("*.py")) if not LEFT_OUT & set(path.relative_to(root).parts))
    found = (" ".join(sentences(text))[:LONGEST] for path in files for text in documented(path))
    return tuple(dict.fromkeys(text for text in found if text))


def documented(path: Path) -> Iterator[str]:
    """The docstrings of a file; none of one that is no Python of this version."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield ast.get_docstring(node) or ""


def sentences(text: str) -> list[str]:
    """The plain sentences of a docstring, in their order."""
    return [s for part in re.split(r"\n\s*\n", text) for s in PLAIN.findall(" ".join(part.split()))]
