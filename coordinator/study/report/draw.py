"""From a chart to SVG: small, named for screen readers, its colours left to the page's style.

Vega's SVG repeats much and speaks ARIA for every tick. Here one picture has one name and one description, and a mark that has
a description of its own shows it when pointed at.
"""

from __future__ import annotations

import re
from collections import Counter
from xml.etree import ElementTree

import altair as alt
import vl_convert

from . import theme
from .parts import Figure, Space

MOST_TITLES = 150  # of marks that say what they are when pointed at; where there are more, the table says it
_SVG = "{http://www.w3.org/2000/svg}"
_DROPPED = {"pointer-events", "aria-hidden", "aria-roledescription", "aria-label", "role", "font-family", "version"}
_IDLE = {
    "opacity": "1",
    "stroke-miterlimit": "10",
    "text-anchor": "start",
    "x2": "0",
    "y2": "0",
    "transform": "translate(0,0)",
}
_INHERITED = (
    "fill",
    "stroke",
    "stroke-width",
    "stroke-dasharray",
    "stroke-linecap",
    "font-size",
    "font-weight",
    "text-anchor",
)
_LONG = re.compile(r"-?\d+\.\d{2,}(?:e-?\d+)?")


def picture(figure: Figure, space: Space, prefix: str) -> ElementTree.Element:
    """Draw it. `prefix` begins every id inside, so that pictures of one page do not share any."""
    spec = figure.draw(space).to_dict(validate=False)
    spec["config"] = theme.config(narrow=space.narrow)
    version = alt.SCHEMA_VERSION.removeprefix("v").rsplit(".", 1)[0]
    root = ElementTree.fromstring(vl_convert.vegalite_to_svg(spec, vl_version=version))
    described = sum(element.get("role") == "graphics-symbol" for element in root.iter())
    _clean(root, prefix, titles=not space.narrow and described <= MOST_TITLES)
    for tag, text in (("desc", f"{figure.summary} {figure.reading}"), ("title", figure.title)):
        element = ElementTree.Element(tag, {"id": f"{prefix}-{tag}"})
        element.text = text
        root.insert(0, element)
    width, height = root.attrib["width"], root.attrib["height"]
    root.attrib.clear()
    root.attrib.update(
        {
            "viewBox": f"0 0 {width} {height}",
            "width": width,
            "height": height,
            "class": "chart",
            "role": "img",
            "aria-labelledby": f"{prefix}-title {prefix}-desc",
            "font-family": theme.FONT,
        }
    )
    return root


def inline(figure: Figure, space: Space) -> str:
    """For a page that holds the theme's variables and patterns."""
    return _text(picture(figure, space, f"{figure.name}-{space.name}"))


def _text(root: ElementTree.Element) -> str:
    return ElementTree.tostring(root, encoding="unicode").replace('" />', '"/>')


def standalone(figure: Figure, space: Space) -> str:
    """A file of its own, light or dark as its reader prefers."""
    root = picture(figure, space, figure.name)
    root.set("xmlns", "http://www.w3.org/2000/svg")
    body = _text(root)
    head, _, rest = body.partition(">")
    paper = '<rect width="100%" height="100%" fill="var(--paper)"/>'
    return f"{head}><style>{theme.variables('svg')}</style><defs>{theme.patterns()}</defs>{paper}{rest}"


def _clean(element: ElementTree.Element, prefix: str, *, titles: bool) -> None:
    """Take out what draws nothing, turn a mark's description into its title, and give ids their prefix."""
    element.tag = element.tag.removeprefix(_SVG)
    kept: list[ElementTree.Element] = []
    for child in element:
        if _draws(child):
            _clean(child, prefix, titles=titles)
            kept += child if child.tag == "g" and not child.attrib else [child]
    element[:] = [child for child in kept if child.tag not in ("g", "defs") or len(child)]
    described = element.get("aria-label") if element.get("role") == "graphics-symbol" and not len(element) else None
    for name, value in list(element.items()):
        if name in _DROPPED or _IDLE.get(name) == value:
            del element.attrib[name]
        elif name == "class":
            del element.attrib[name]
            if "role-mark" in value:
                element.set("class", "marks")
                if "mark-rect" in value:
                    element.set("shape-rendering", "crispEdges")  # areas that meet show no seam
        elif name in ("d", "transform", "x", "y", "x2", "y2", "width", "height"):
            element.set(name, _LONG.sub(_rounded, value))
        elif name == "id":
            element.set(name, f"{prefix}-{value}")
        elif name == "clip-path":
            element.set(name, value.replace("url(#", f"url(#{prefix}-"))
    _hoist(element)
    if described and titles:
        title = ElementTree.SubElement(element, "title")
        title.text = described


def _draws(element: ElementTree.Element) -> bool:
    if element.get("display") == "none" or (element.tag == f"{_SVG}path" and not element.get("d")):
        return False
    return (
        element.get("class") not in ("background", "foreground")
        or "fill" in element.attrib
        or "stroke" in element.attrib
    )


def _hoist(group: ElementTree.Element) -> None:
    """What most members of a group say is said once, by the group."""
    members = [child for child in group if child.tag not in ("title", "desc", "defs")]
    if group.tag != "g" or len(members) < 2 or len(members) < len(group):
        return
    for name in _INHERITED:
        values = Counter(child.get(name) for child in members)
        if None not in values:
            common, _ = values.most_common(1)[0]
            group.set(name, str(common))
            for child in members:
                if child.get(name) == common:
                    del child.attrib[name]


def _rounded(found: re.Match[str]) -> str:
    text = f"{float(found[0]):.1f}".removesuffix(".0")
    return "0" if text == "-0" else text
