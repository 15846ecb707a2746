"""The look as Gradio takes it: a theme whose every colour points into `assets/loupe.css`, and what `launch` needs for it.

Goes in: nothing. Comes out: a theme and keyword arguments for `launch`. Doesn't know a colour (the style sheet has them all) or a page.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import gradio as gr

STYLE_SHEET = Path(__file__).resolve().parent.parent / "assets" / "loupe.css"
SANS = ("system-ui", "-apple-system", "Segoe UI", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")

# One role of the palette, and the theme variables that take it, in both modes.
ROLES: dict[str, str] = {
    "ground": (
        "body_background_fill background_fill_secondary block_background_fill block_label_background_fill "
        "block_title_background_fill panel_background_fill table_odd_background_fill table_even_background_fill "
        "checkbox_label_background_fill checkbox_label_background_fill_selected"
    ),
    "panel": (
        "background_fill_primary input_background_fill input_background_fill_focus code_background_fill "
        "checkbox_background_color button_secondary_background_fill"
    ),
    "ink": (
        "body_text_color block_title_text_color table_text_color accordion_text_color checkbox_label_text_color "
        "checkbox_label_text_color_selected button_secondary_text_color button_secondary_text_color_hover "
        "button_cancel_text_color"
    ),
    "dim": "body_text_color_subdued block_label_text_color block_info_text_color input_placeholder_color",
    "line": (
        "border_color_primary block_border_color block_label_border_color input_border_color input_border_color_hover "
        "table_border_color panel_border_color checkbox_label_border_color checkbox_label_border_color_hover"
    ),
    "edge": "checkbox_border_color checkbox_border_color_hover button_secondary_border_color_hover button_cancel_border_color_hover",
    "rim": "button_secondary_border_color button_cancel_border_color",
    "selected": "color_accent_soft table_row_focus checkbox_label_background_fill_hover button_secondary_background_fill_hover",
    "accent": (
        "border_color_accent color_accent link_text_color link_text_color_active link_text_color_hover link_text_color_visited "
        "input_border_color_focus checkbox_background_color_selected checkbox_border_color_selected checkbox_border_color_focus "
        "slider_color loader_color button_primary_background_fill button_primary_border_color button_primary_border_color_hover"
    ),
    "accent-strong": "button_primary_background_fill_hover",
    "on-accent": "button_primary_text_color button_primary_text_color_hover",
    "overruled": "error_text_color error_border_color error_icon_color",
    "overruled-ground": "error_background_fill",
}

# Shape, in one mode or in both.
SHAPE: dict[str, str] = {
    "block_border_width": "0px", "block_shadow": "none", "block_padding": "0px", "block_radius": "4px", "block_label_padding": "0 0 4px 0",
    "block_label_border_width": "0px", "block_title_border_width": "0px", "block_title_padding": "0px", "block_label_margin": "0",
    "block_label_text_size": "13px", "block_title_text_size": "13px", "block_title_text_weight": "400", "block_label_text_weight": "400",
    "block_info_text_size": "12.5px", "container_radius": "4px", "form_gap_width": "0px", "layout_gap": "14px",
    "input_radius": "4px", "input_shadow": "none", "input_shadow_focus": "none", "input_padding": "8px 10px", "input_text_size": "14px",
    "input_border_width": "1px", "shadow_drop": "none", "shadow_drop_lg": "none", "shadow_inset": "none",
    "checkbox_label_padding": "4px 10px", "checkbox_label_shadow": "none", "checkbox_shadow": "none", "checkbox_label_border_width": "1px",
    "button_primary_shadow": "none", "button_primary_shadow_hover": "none", "button_primary_shadow_active": "none",
    "button_border_width": "1px", "button_large_radius": "4px", "button_medium_radius": "4px", "button_small_radius": "4px",
    "button_large_padding": "9px 18px", "button_medium_padding": "7px 14px", "button_large_text_size": "15px",
    "button_large_text_weight": "500", "button_medium_text_weight": "500", "button_small_text_weight": "400",
    "button_transform_hover": "none", "button_transform_active": "none", "table_radius": "4px", "panel_border_width": "0px",
    "section_header_text_weight": "600", "prose_header_text_weight": "600",
}


def theme() -> gr.themes.Base:
    """Gradio's plainest theme in Loupe's palette; nothing is fetched for its fonts."""
    known = inspect.signature(gr.themes.Base.set).parameters
    values = {name: f"var(--loupe-{role})" for role, names in ROLES.items() for name in names.split()} | SHAPE
    both = values | {f"{name}_dark": value for name, value in values.items() if f"{name}_dark" in known}
    return gr.themes.Base(font=list(SANS), font_mono=list(MONO), text_size="md", radius_size="sm", spacing_size="sm").set(**both)


def launch_options() -> dict[str, Any]:
    """Keyword arguments for `Blocks.launch`: the theme, the head of every page, and no footer.

    The style sheet goes in by the head: what comes by `css_paths` Gradio rewrites, and a rule inside
    `@media` then reaches the inner page only.
    """
    style = STYLE_SHEET.read_text(encoding="utf-8")
    head = f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>\n{style}\n</style>'
    return {"theme": theme(), "head": head, "footer_links": []}
