"""Published errors -> marks in a panel: hollow, with their reading error, with the source below."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

SHAPES = {"train_running": "^", "train": "D", "test": "v"}
NAMES = {"train_running": "running training error", "train": "training error", "test": "test error"}
LOOK: dict[str, Any] = {"markerfacecolor": "white", "markersize": 6, "markeredgewidth": 1.3, "linestyle": "none"}


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A published error (a fraction, as its reading error) that is comparable with a measured one.

    ``at``: ``end``, or ``before first drop`` of the learning rate.
    """

    network: str
    shortcut: str
    depth: int
    split: str
    statistics: str
    at: str
    error: float
    reading_error: float
    source: str


def draw_marks(
    axes: Axes, marks: Iterable[Mark], place: Callable[[Mark], float], colour: Callable[[Mark], str]
) -> None:
    """Draw each mark at its place on the x axis, in the colour of the same network."""
    for mark in marks:
        look = LOOK | {"marker": SHAPES[mark.split], "color": colour(mark), "label": f"published {mark.split}"}
        axes.errorbar(place(mark), mark.error, mark.reading_error or None, zorder=5, clip_on=False, **look)


def mark_keys(marks: Sequence[Mark]) -> list[Line2D]:
    """An entry of the key for each split that has marks."""
    splits = {mark.split for mark in marks}
    return [
        Line2D([], [], marker=shape, color="black", label=f"published {NAMES[split]}", **LOOK)
        for split, shape in SHAPES.items()
        if split in splits
    ]


def mark_notes(marks: Sequence[Mark]) -> list[str]:
    """The sources of the marks, each once."""
    sources = "; ".join(dict.fromkeys(mark.source for mark in marks))
    return [f"Hollow marks: published values, with their reading error: {sources}."] if marks else []
