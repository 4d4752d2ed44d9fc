"""Colours, patterns and shapes of the report, for light and dark.

Charts name colours as CSS variables, so that one SVG serves both themes. Six colours that stay apart for the common colour
blindnesses; each comes with a pattern, a shape and a dash, so that none has to be told by colour.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


def _washed(colours: Mapping[str, str]) -> dict[str, str]:
    """With a wash of each colour, w1 to w6: what its pattern is drawn on."""

    def wash(colour: str) -> str:
        parts = [(int(colour[n : n + 2], 16), int(colours["paper"][n : n + 2], 16)) for n in (1, 3, 5)]
        return "#" + "".join(f"{round(0.3 * own + 0.7 * paper):02x}" for own, paper in parts)

    return {**colours, **{f"w{number}": wash(colours[f"c{number}"]) for number in range(1, 7)}}


LIGHT: Mapping[str, str] = _washed(
    {
        "paper": "#ffffff",
        "raised": "#f4f6f9",
        "ink": "#191d23",
        "soft": "#4a535f",
        "axis": "#7d8794",
        "rule": "#dde2e8",
        "link": "#0a58a8",
        "c1": "#1668b5",
        "c2": "#c65102",
        "c3": "#00806a",
        "c4": "#8f4aa3",
        "c5": "#8a6a00",
        "c6": "#6b7683",
    }
)
DARK: Mapping[str, str] = _washed(
    {
        "paper": "#11151a",
        "raised": "#1a2027",
        "ink": "#e9edf2",
        "soft": "#b3bdc9",
        "axis": "#8894a2",
        "rule": "#2d363f",
        "link": "#7fbcff",
        "c1": "#64aefc",
        "c2": "#ff9455",
        "c3": "#38cba8",
        "c4": "#d495e6",
        "c5": "#e2c044",
        "c6": "#a3afbc",
    }
)
COLOURS = [f"var(--c{number})" for number in range(1, 7)]
SHAPES = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross"]
INK, SOFT, AXIS, RULE, PAPER, BASELINE = (f"var(--{name})" for name in ("ink", "soft", "axis", "rule", "paper", "c6"))
FONT = "Helvetica, Arial, 'Liberation Sans', sans-serif"
WASHES = [f"url(#pattern-{number})" for number in range(1, 7)]  # for areas that text stands on
FILLS = ["var(--c1)", *(f"url(#pattern-{number})" for number in range(2, 7))]

_STROKES = {
    1: "",
    2: "M-2,2l4,-4M0,8l8,-8M6,10l4,-4",
    3: "M2,2h.1M6,6h.1",
    4: "M-2,6l4,4M0,0l8,8M6,-2l4,4",
    5: "M0,2h8M0,6h8",
    6: "M2,0v8M6,0v8M0,2h8M0,6h8",
}


def patterns() -> str:
    """The definitions that `FILLS` refers to: a wash of the colour, and lines or dots of it."""
    return "".join(
        f'<pattern id="pattern-{number}" width="8" height="8" patternUnits="userSpaceOnUse">'
        f'<rect width="8" height="8" fill="var(--w{number})"/>'
        f'<path d="{path}" stroke="var(--c{number})" stroke-width="{3 if number == 3 else 1.8}" '
        f'stroke-linecap="{"round" if number == 3 else "square"}" fill="none"/></pattern>'
        for number, path in _STROKES.items()
    )


def variables(scope: str = ":root") -> str:
    """CSS: the light colours, the dark ones where the reader prefers them, and light ones on paper."""

    def block(colours: Mapping[str, str]) -> str:
        return f"{scope}{{{''.join(f'--{name}:{colour};' for name, colour in colours.items())}}}"

    return f"{block(LIGHT)}@media (prefers-color-scheme: dark){{{block(DARK)}}}@media print{{{block(LIGHT)}}}"


def flat(svg: str, colours: Mapping[str, str] = LIGHT) -> str:
    """With colours in place of variables, for programs that know no CSS."""
    return re.sub(r"var\(--([a-z0-9]+)\)", lambda found: colours.get(found[1], found[0]), svg)


def config(*, narrow: bool) -> dict[str, Any]:
    """Vega-Lite's: quiet grid, readable labels, legends on top."""
    text = 11 if narrow else 12
    return {
        "background": "transparent",
        "font": FONT,
        "padding": 4,
        "lineBreak": "\n",
        "view": {"stroke": None, "cornerRadius": 0},
        "axis": {
            "labelColor": SOFT,
            "titleColor": INK,
            "titleFontWeight": "normal",
            "labelFontSize": text,
            "titleFontSize": text,
            "titlePadding": 8,
            "gridColor": RULE,
            "domainColor": AXIS,
            "tickColor": AXIS,
            "tickSize": 4,
            "labelLimit": 118 if narrow else 210,
            "labelOverlap": True,
        },
        "legend": {
            "orient": "top",
            "direction": "vertical" if narrow else "horizontal",
            "labelColor": INK,
            "titleColor": SOFT,
            "titleFontWeight": "normal",
            "labelFontSize": text,
            "titleFontSize": text,
            "labelLimit": 260,
            "symbolSize": 110,
            "offset": 12,
            "titleOrient": "top" if narrow else "left",
            "columnPadding": 14,
        },
        "title": {
            "color": INK,
            "fontSize": text + 1,
            "fontWeight": "bold",
            "anchor": "start",
            "offset": 8,
            "subtitleColor": SOFT,
            "subtitleFontSize": text,
            "limit": 300 if narrow else 400,
        },
        "concat": {"spacing": 26},
        "text": {"color": INK, "fontSize": text},
    }
