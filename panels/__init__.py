"""The browser side: one module a page, in the order of the navigation.

Goes in: nothing. Comes out: `PANELS`. A panel has `TITLE`, `PATH` and `build(workbench, demo)`, which lays out one page and wires it;
`SHOW_IN_NAVBAR = False` keeps it out of the navigation.
A new page is one module and one line here. Only this package imports gradio.
"""

from __future__ import annotations

from panels import compare, contamination, hidden_text, history, models, routing, shared, speculative, structured

PANELS = (structured, routing, speculative, contamination, hidden_text, models, history, compare, shared)
