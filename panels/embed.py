"""Pages inside other pages: `?embed=1` leaves verdict, picture, strip and replay, and a link to the whole page.

Goes in: nothing. Comes out: a script for the head of every page. What is hidden stands in `assets/pages.css`, under `.loupe-embed`.
"""

from __future__ import annotations

import json
from pathlib import Path

from panels.records import PAGES

SCRIPT = Path(__file__).resolve().parent.parent / "assets" / "embed.js"


def head() -> str:
    """The script, for the head of every page: it knows by name which pages a Space's address may lead on to."""
    return f"<script>\n{SCRIPT.read_text(encoding='utf-8').strip()}({json.dumps(PAGES)});\n</script>"
