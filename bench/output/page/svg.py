"""SVG: a plot as it may stand inside a page, with nothing in it that runs or loads, ids of its own, and its paper and
ink left to the page."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

from bench import UsageError
from bench.output.plots import style

#: What a plot consists of; anything else (a script, a link, a style sheet for the whole page) is left out.
ELEMENTS = set("svg g defs path use clipPath rect circle line polyline polygon image pattern text tspan".split())
ATTRIBUTES = set(
    "viewBox d x y x1 y1 x2 y2 cx cy r rx ry width height points transform style clip-path clip-rule fill stroke "
    "stroke-width opacity patternUnits patternContentUnits patternTransform preserveAspectRatio id href".split()
)
#: What lies on paper, in plots that take these from drawing.
THEME = {
    style.INK: "ink",
    style.FAINT: "faint",
    style.GRID: "grid",
    style.SHADE: "shade",
    style.PAPER: "paper",
}
FILLS = {color.lower(): f"var(--{name})" for color, name in THEME.items()}
#: A line in black is ink; black areas are letters on a colour, and stay.
LINES = FILLS | {"#000000": "var(--ink)"}
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
FAMILY = re.compile(r"(?<=px )['\"].*")
POINTS_PX = 96 / 72


def inline(file: Path, prefix: str, name: str) -> tuple[str, float]:
    """The markup of an SVG file, and its natural width in CSS pixels.

    ``prefix`` makes its ids those of this plot alone; ``name`` is what is read out in its place, plain text.
    UsageError where the file is no SVG.
    """
    try:
        root = ET.fromstring(CONTROL.sub(" ", file.read_text(encoding="utf-8")))
    except (OSError, ET.ParseError, UnicodeDecodeError) as error:
        raise UsageError(f"{file.name}: expected an SVG, found something else: {error}") from error
    if _local(root.tag) != "svg":
        raise UsageError(f"{file.name}: expected an SVG, found <{_local(root.tag)}>")
    width = float((root.get("width") or "720pt").removesuffix("pt")) * POINTS_PX
    _clean(root, prefix)
    for fixed in ("width", "height"):  # the page says how wide it is
        root.attrib.pop(fixed, None)
    root.set("role", "img")
    root.set("aria-labelledby", f"{prefix}-title")
    title = ET.Element("title", {"id": f"{prefix}-title"})
    title.text = name
    root.insert(0, title)
    return ET.tostring(root, encoding="unicode"), width


def _clean(element: ET.Element, prefix: str) -> None:
    """Leave what is known, without namespaces, which HTML has not."""
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
    """A value as the page may have it; empty for one that it may not."""
    if name == "id":
        return f"{prefix}-{value}"
    if name == "href":
        if value.startswith("#"):
            return f"#{prefix}-{value[1:]}"
        return value if tag == "image" and value.startswith("data:image/png;base64,") else ""
    value = re.sub(r"url\(\s*#", f"url(#{prefix}-", value)
    if re.search(r"url\(\s*(?!#)|javascript:|expression|@import", value):
        return ""
    return "; ".join(_themed(tag, one) for one in value.split(";") if one.strip()) if name == "style" else value


def _themed(tag: str, declaration: str) -> str:
    what, _, value = (part.strip() for part in declaration.partition(":"))
    if what == "font":  # letters are the page's own, of the plot's size
        return f"font:{re.sub(FAMILY, 'var(--text)', value)}"
    known = {"fill": FILLS, "stroke": LINES}.get(what, {})
    return f"{what}:{known.get(value.lower(), value)}"


def _local(name: object) -> str:
    """A name without its namespace; a comment has none."""
    return name.rpartition("}")[2] if isinstance(name, str) else ""
