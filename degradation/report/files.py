"""A study's results -> report.html, report.md and answer.png in a folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from degradation.report.content import Contents, contents
from degradation.report.rendering import html, markdown
from degradation.store import FIGURES, Place, Store, store_at
from degradation.study.results import Results

PAGE, TWIN = "report.html", "report.md"
LINKED = ("png", "svg")  # the formats that GitHub shows; the first existing one is used


@dataclass(frozen=True, kw_only=True)
class ReportFiles:
    """The written files: the page and its Markdown twin, and their content."""

    page: Place
    twin: Place
    contents: Contents


def write(results: Results, out: str | Path, again: Sequence[str]) -> ReportFiles:
    """Write the page, its twin and the figure of the answer into ``out``.

    ``again``: the command that runs the study from the start. The same frames, packages and files in
    ``out/figures`` give the same bytes. Raises UserError if no run is done or a file cannot be written.
    """
    it, store = contents(results, again), store_at(out)
    images = {drawing.name: link for drawing in it.drawings if (link := _link(store, drawing.name))}
    if it.summary:
        images[it.summary.name] = f"{it.summary.name}.png"
        store.write(images[it.summary.name], it.summary.png)
    store.write(PAGE, html(it).encode())
    store.write(TWIN, markdown(it, images).encode())
    return ReportFiles(page=store.root / PAGE, twin=store.root / TWIN, contents=it)


def _link(store: Store, figure: str) -> str:
    """The figure's file in the folder of figures next to the report; empty if there is none."""
    links = [f"{FIGURES}/{figure}.{kind}" for kind in LINKED]
    return next((link for link in links if store.exists(link)), "")
