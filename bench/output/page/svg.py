"""Sanitize an SVG plot for inlining: no scripts or external references, unique ids, theme colors of the page."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

from bench import UsageError
from bench.output.plots import style

#: Allowed elements; any other (script, link, style sheet) is removed.
ELEMENTS = set("svg g defs path use clipPath rect circle line polyline polygon image pattern text tspan".split())
ATTRIBUTES = set(
    "viewBox d x y x1 y1 x2 y2 cx cy r rx ry width height points transform style clip-path clip-rule fill stroke "
    "stroke-width opacity patternUnits patternContentUnits patternTransform preserveAspectRatio id href".split()
)
#: Colors of plots.style that follow the page's theme.
THEME = {
    style.INK: "ink",
    style.FAINT: "faint",
    style.GRID: "grid",
    style.SHADE: "shade",
    style.PAPER: "paper",
}
FILLS = {color.lower(): f"var(--{name})" for color, name in THEME.items()}
#: Black lines follow the theme; black fills are text on a color, and stay.
LINES = FILLS | {"#000000": "var(--ink)"}
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
FAMILY = re.compile(r"(?<=px )['\"].*")
POINTS_PX = 96 / 72


def inline(file: Path, prefix: str, name: str) -> tuple[str, float]:
    """Return the markup of an SVG file, and its width in CSS pixels.

    ``prefix`` makes its ids unique; ``name`` is its text alternative, plain text. Raises UsageError if the file is not
    an SVG.
    """
    try:
        root = ET.fromstring(CONTROL.sub(" ", file.read_text(encoding="utf-8")))
    except (OSError, ET.ParseError, UnicodeDecodeError) as error:
        raise UsageError(f"{file.name}: expected an SVG, found something else: {error}") from error
    if _local(root.tag) != "svg":
        raise UsageError(f"{file.name}: expected an SVG, found <{_local(root.tag)}>")
    width = float((root.get("width") or "720pt").removesuffix("pt")) * POINTS_PX
    _clean(root, prefix)
    for fixed in ("width", "height"):  # set by the page
        root.attrib.pop(fixed, None)
    root.set("role", "img")
    root.set("aria-labelledby", f"{prefix}-title")
    title = ET.Element("title", {"id": f"{prefix}-title"})
    title.text = name
    root.insert(0, title)
    return ET.tostring(root, encoding="unicode"), width


def _clean(element: ET.Element, prefix: str) -> None:
    """Remove unknown elements and attributes, and namespaces, which HTML lacks."""
    element.tag = _local(element.tag)
    known = {_local(name): value for name, value in element.attrib.items()}
    element.attrib.clear()
    for name, value in known.items():
        if name in ATTRIBUTES and (kept := _kept(element.tag, name, value, prefix)):
            element.set(name, kept)
    if element.tag not in ("text", "tspan"):
        element.text = None
    element.tail = None
    for child in list(element):
        if _local(child.tag) in ELEMENTS:
            _clean(child, prefix)
        else:
            element.remove(child)


def _kept(tag: str, name: str, value: str, prefix: str) -> str:
    """Return an attribute's value for the page, empty if not allowed."""
    if name == "id":
        return f"{prefix}-{value}"
    if name == "href":
        if value.startswith("#"):
            return f"#{prefix}-{value[1:]}"
        return value if tag == "image" and value.startswith("data:image/png;base64,") else ""
    value = re.sub(r"url\(\s*#", f"url(#{prefix}-", value)
    if re.search(r"url\(\s*(?!#)|javascript:|expression|@import", value):
        return ""
    return "; ".join(_themed(tag, rule) for rule in value.split(";") if rule.strip()) if name == "style" else value


def _themed(tag: str, declaration: str) -> str:
    what, _, value = (part.strip() for part in declaration.partition(":"))
    if what == "font":  # the page's font in the plot's size
        return f"font:{re.sub(FAMILY, 'var(--text)', value)}"
    known = {"fill": FILLS, "stroke": LINES}.get(what, {})
    return f"{what}:{known.get(value.lower(), value)}"


def _local(name: object) -> str:
    """Strip the namespace of a tag; the tag of a comment is no string."""
    return name.rpartition("}")[2] if isinstance(name, str) else ""
