"""The scripts that draw a run, in the order in which they are put together: one truth for the pages and for a run handed over as a file.

Goes in: nothing. Comes out: file names in `assets`, and their text. Knows neither Gradio nor what the scripts do.
"""

from __future__ import annotations

from backend.paths import assets_dir

# What every strip has, then what only some runs fill; a view hides itself where a run has nothing for it. `strip.js` puts them together.
VIEWS = ("gpu-offer.js", "replay_guess.js", "replay.js", "staircase.js", "refused.js", "tree.js", "timeline.js", "rounds.js", "routing-picture.js",
         "routing-threshold.js", "routing.js", "contamination.js", "hidden_found.js", "hidden_dots.js", "hidden_map.js", "hidden_table.js",
         "hidden_lift.js")  # fmt: skip
SCRIPTS = ("glyphs.js", "glossary.js", "views.js", "lane.js", "picture.js", "card.js", *VIEWS, "strip.js")


def script_text(names: tuple[str, ...] = SCRIPTS) -> str:
    """The files one after another, as one text."""
    return "\n".join((assets_dir() / name).read_text(encoding="utf-8") for name in names)
