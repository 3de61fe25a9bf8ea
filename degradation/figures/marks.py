"""Published errors -> marks in a panel, unlike anything measured: black outlines, named in the key and below."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

SHAPES = {"train_running": "^", "train": "D", "test": "v"}
NAMES = {"train_running": "running training error", "train": "training error", "test": "test error"}
LOOK: dict[str, Any] = {
    "color": "black",
    "markerfacecolor": "white",
    "markersize": 6,
    "markeredgewidth": 1.2,
    "linestyle": "none",
}


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A published error (a fraction, as its reading error) that a measured one may be compared with.

    ``at``: ``end``, or ``before first drop`` of the learning rate.
    """

    network: str
    shortcut: str
    depth: int
    split: str
    at: str
    error: float
    reading_error: float
    source: str


def draw_marks(axes: Axes, marks: Iterable[Mark], places: Sequence[float]) -> None:
    """Each mark at its x, with its reading error as an upright."""
    for mark, place in zip(marks, places, strict=True):
        axes.errorbar(
            [place], [mark.error], [[mark.reading_error], [mark.reading_error]] if mark.reading_error else None,
            marker=SHAPES[mark.split], label=f"published {mark.split}", zorder=5, clip_on=False, ecolor="black",
            elinewidth=1, **LOOK,
        )  # fmt: skip


def mark_keys(marks: Sequence[Mark]) -> list[Line2D]:
    """An entry of the key for each split that has marks."""
    present = [split for split in SHAPES if any(mark.split == split for mark in marks)]
    return [Line2D([], [], marker=SHAPES[split], label=f"published {NAMES[split]}", **LOOK) for split in present]


def mark_notes(marks: Sequence[Mark]) -> list[str]:
    """Where the marks come from, each source once."""
    sources = "; ".join(dict.fromkeys(mark.source for mark in marks))
    return [f"Black outlines: published values, with their reading error: {sources}."] if marks else []
