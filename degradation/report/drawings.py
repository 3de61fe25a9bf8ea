"""The figures of a study -> SVG elements for one HTML page, and the reason for each missing figure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from xml.etree import ElementTree

from matplotlib.figure import Figure

from degradation.analysis import Estimate
from degradation.errors import UserError
from degradation.figures import FIGURES, default_figures, figure_of, image
from degradation.figures.published_points import Mark
from degradation.report.captions import CAPTIONS, Caption
from degradation.report.effects import effects
from degradation.report.gap_chart import gap
from degradation.study.results import Results

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
HREF = f"{{{XLINK}}}href"
UNUSED = {f"{{{SVG}}}{tag}" for tag in ("metadata", "style", "title")}
ORDER = ("curves", "depth", "gap", *(name for name in FIGURES if name not in ("curves", "depth")))
DECIMALS = 2  # decimals of a path's coordinates, in points: 1/7000 inch is invisible, and saves two thirds of the bytes


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One figure as an SVG element; its ids are unique on the page."""

    name: str
    caption: Caption
    svg: str
    png: bytes = b""
    """The same figure as a file, for the Markdown twin if it has no other file."""


def drawings(results: Results, marks: Sequence[Mark] = ()) -> tuple[tuple[Drawing, ...], list[str]]:
    """Every figure that can be drawn, in order, and for each other one a line with what is missing."""
    drawn, missing = [], []
    available = (*default_figures(results), "gap")
    for name in [name for name in ORDER if name in available]:
        try:
            figure, _ = gap(results) if name == "gap" else figure_of(name, results, marks)
        except UserError as error:
            missing.append(str(error))
        else:
            drawn.append(_drawing(name, figure, results))
    return tuple(drawn), missing


def summary(results: Results, estimates: Sequence[Estimate]) -> Drawing | None:
    """The figure next to the answer; None if no two depths can be compared."""
    try:
        figure, _ = effects(estimates, tuple(results.study.arms))
    except UserError:
        return None
    drawing = _drawing("answer", figure, results)
    # After the SVG: each drawing of a figure moves its layout by a hundredth of a point.
    return replace(drawing, png=image(figure, "png", results))


def _drawing(name: str, figure: Figure, results: Results) -> Drawing:
    caption = CAPTIONS[name]
    svg = inline(image(figure, "svg", results), prefix=f"{name}-", alt=caption.alt)
    return Drawing(name=name, caption=caption, svg=svg)


def inline(svg: bytes, *, prefix: str, alt: str) -> str:
    """An SVG file as an element of a page: named by ``alt``, with ``prefix`` before each id that is referred to.

    Declarations, metadata, styles for the whole page and unused ids are removed; the page sets the size.
    """
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag in UNUSED]:
            parent.remove(child)
    used_ids = {name for element in root.iter() for value in element.attrib.values() for name in _referred(value)}
    for element in root.iter():
        _rename(element, prefix, used_ids)
    del root.attrib["width"], root.attrib["height"]
    root.attrib.update({"role": "img", "aria-label": alt, "focusable": "false"})
    ElementTree.register_namespace("", SVG)
    return ElementTree.tostring(root, encoding="unicode")


def _referred(value: str) -> list[str]:
    """The ids that an attribute refers to: ``url(#clip)`` or ``#glyph``."""
    return re.findall(r"url\(#([^)]+)\)", value) + ([value[1:]] if value.startswith("#") else [])


def _rename(element: ElementTree.Element, prefix: str, used_ids: set[str]) -> None:
    """Put ``prefix`` before the ids of an element and shorten its text and path, in place."""
    element.text = element.text.strip() if element.text else None
    element.tail = None
    if (own := element.attrib.pop("id", None)) in used_ids:
        element.set("id", f"{prefix}{own}")
    if target := element.attrib.pop(HREF, None):
        element.set("href", f"#{prefix}{target[1:]}" if target.startswith("#") else target)
    for name, value in element.attrib.items():
        if "url(#" in value:
            element.set(name, value.replace("url(#", f"url(#{prefix}"))
    if "d" in element.attrib:
        path = " ".join(element.attrib["d"].split())
        element.set("d", re.sub(r"-?\d+\.\d+", lambda match: f"{float(match[0]):.{DECIMALS}f}", path))
