"""The look: one style sheet has every colour, in both modes, and the theme only points into it."""

from __future__ import annotations

import re

from backend.strip_files import SCRIPTS
from panels.strip import ASSETS, strip_script
from panels.theme import ROLES, STYLE_SHEET, launch_options, theme

COLOUR = re.compile(r"#[0-9a-fA-F]{3,8}\b|rgba?\(|hsla?\(")


def palettes() -> list[dict[str, str]]:
    """The light and the dark palette of the style sheet."""
    css = STYLE_SHEET.read_text(encoding="utf-8")
    blocks = [re.search(pattern, css, re.S).group(1) for pattern in (r"\n:root \{(.*?)\}", r"\n:root\.dark, :root \.dark \{(.*?)\}")]
    return [dict(re.findall(r"--loupe-([a-z-]+): (#[0-9a-f]{6});", block)) for block in blocks]


def luminance(colour: str) -> float:
    """WCAG 2 relative luminance."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_light_and_dark_have_the_same_roles() -> None:
    light, dark = palettes()
    assert light and set(light) == set(dark)


def test_text_is_legible_on_its_ground_in_both_modes() -> None:
    pairs = [("ink", "ground"), ("ink", "panel"), ("dim", "ground"), ("dim", "panel"), ("accent", "ground"), ("on-accent", "accent"),
             ("on-accent", "accent-strong"), ("overruled", "ground"), ("overruled", "overruled-ground"), ("good", "ground"),
             ("good", "good-ground"), ("violet", "violet-ground"), ("ink", "selected"), ("dim", "selected")]  # fmt: skip
    poor = [(i, text, ground) for i, palette in enumerate(palettes()) for text, ground in pairs if contrast(palette[text], palette[ground]) < 4.5]
    assert poor == []


def test_the_theme_points_at_colours_that_the_style_sheet_has() -> None:
    light, _ = palettes()
    css = theme()._get_theme_css()
    assert set(ROLES) <= set(light)
    assert set(re.findall(r"var\(--loupe-([a-z-]+)\)", css)) == set(ROLES)


def test_every_variable_that_is_used_is_defined_and_no_colour_stands_below_the_palette() -> None:
    light, _ = palettes()
    css = STYLE_SHEET.read_text(encoding="utf-8")
    assert set(re.findall(r"var\(--loupe-([a-z-]+)\)", css)) <= set(light)
    assert not COLOUR.search(css[css.index(":root:root {") :])
    assert not COLOUR.search(strip_script())


def test_launch_gets_the_style_sheet_whole() -> None:
    options = launch_options()
    assert STYLE_SHEET.read_text(encoding="utf-8") in options["head"]
    assert "</style" not in STYLE_SHEET.read_text(encoding="utf-8")


def test_scripts_set_text_as_text_only() -> None:
    for name in SCRIPTS:
        source = (ASSETS / name).read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", source), name
