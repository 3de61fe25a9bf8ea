"""A network -> its style: one colour per network, one shade per depth, the same in every figure."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import matplotlib.style
import numpy as np
import seaborn
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

from degradation.figures.tidy import Kind, Series, series

if TYPE_CHECKING:
    import pandas as pd

COLOURS = {"plain": "#D55E00", "residual": "#0072B2"}  # vermillion and blue of Okabe and Ito (2008)
DASHES: dict[str, Any] = {"none": (0, (4, 1.3)), "A": "-", "B": (0, (6, 1.3, 1.2, 1.3)), "C": (0, (1.2, 1))}
DOTS: Any = (0, (1, 2.2))  # a diverged run
MARKERS = {"none": "o", "A": "s", "B": "^", "C": "D"}
GREY = "#595959"

RC: dict[str, Any] = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "lines.linewidth": 1.4,
    "savefig.dpi": 150,
    "figure.dpi": 150,
    "pdf.fonttype": 42,  # TrueType: text in a PDF can be searched and edited
    "svg.hashsalt": "degradation",  # element ids that are the same in every drawing
    "image.interpolation": "nearest",
}


@contextmanager
def styled() -> Iterator[None]:
    """Use matplotlib's defaults with ours on top, whatever the user's settings are; restore these at the end."""
    with matplotlib.style.context(["default", RC]):
        yield


Params = ParamSpec("Params")


def in_style(draw: "Callable[Params, tuple[Figure, pd.DataFrame]]") -> "Callable[Params, tuple[Figure, pd.DataFrame]]":
    """Decorate a figure function so that it draws in our style."""

    @wraps(draw)
    def drawn(*args: Params.args, **kwargs: Params.kwargs) -> "tuple[Figure, pd.DataFrame]":
        with styled():
            return draw(*args, **kwargs)

    return drawn


# colours and names


def shade(network: str, depth: int, depths: Sequence[int]) -> str:
    """The network's colour, lighter for the shallower half of the depths and darker for the deeper half."""
    ordered = sorted(depths)
    place = ordered.index(depth) / (len(ordered) - 1) if len(ordered) > 1 else 0.5
    colour = COLOURS[network]
    light, dark = seaborn.light_palette(colour, 3)[1], seaborn.dark_palette(colour, 3)[1]
    return to_hex(seaborn.blend_palette([light, colour, dark], as_cmap=True)(place))


def kind_name(kind: Kind) -> str:
    """``plain``, ``residual, shortcut A``; in an arm ``adam: plain``."""
    name = kind.network if kind.shortcut == "none" else f"{kind.network}, shortcut {kind.shortcut}"
    return in_arm(kind.arm, name)


def network_name(key: Series) -> str:
    """``plain-20``, ``residual-A-56``, the beginning of the run's id; in an arm ``adam: plain-20``."""
    kind = key.network if key.shortcut == "none" else f"{key.network}-{key.shortcut}"
    return in_arm(key.arm, f"{kind}-{key.depth}")


def in_arm(arm: str, words: str, mark: str = ": ") -> str:
    """The text after the name of the arm, if there is one."""
    return f"{arm}{mark}{words}" if arm else words


def title_of_kind(axes: Axes, kind: Kind, pad: float = 6) -> None:
    """Title a panel with its network, in the network's colour, ``pad`` points above the panel."""
    axes.set_title(kind_name(kind), color=COLOURS[kind.network], fontweight="bold", pad=pad)


def percent(error: float, _: object = None) -> str:
    """Tick label of an error: ``12.5`` for 0.125."""
    return f"{100 * error:.6g}"


def plain_numbers(axes: Axes, least: float, most: float) -> None:
    """Ticks 1, 2, 5, 10, ... on a logarithmic y axis; over two decades and more, only powers of ten."""
    leading = (1,) if most > 100 * least else (1, 1.5, 2, 3, 5) if most < 5 * least else (1, 2, 5)
    axes.yaxis.set_major_locator(LogLocator(subs=leading, numticks=30))
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.yaxis.set_minor_locator(NullLocator())


def line_style(key: Series, depths: Sequence[int], *, mixed: bool = False) -> dict[str, Any]:
    """Colour, shade and dashes of a line; dashes, for grey print, if a panel has ``mixed`` networks."""
    colour = shade(key.network, key.depth, depths)
    if key.diverged:
        return {"color": colour, "linestyle": DOTS, "linewidth": 1.0}
    return {"color": colour, "linestyle": DASHES[key.shortcut] if mixed else "-"}


@dataclass(frozen=True, kw_only=True)
class Key:
    """The legend, between title and panels: its handles, filled column by column."""

    handles: Sequence[Line2D] = ()
    columns: int = 1

    @property
    def rows(self) -> int:
        return -(-len(self.handles) // self.columns)


def network_key(data: "pd.DataFrame", depths: Sequence[int], *, mixed: bool = False) -> Key:
    """One entry for each network in the data, a column for each depth."""
    networks = {key._replace(status="finished", run="", arm="") for key, _ in series(data)}
    ordered = sorted(networks, key=lambda key: (key.depth, *key.kind))
    handles = [Line2D([], [], label=network_name(key), **line_style(key, depths, mixed=mixed)) for key in ordered]
    return Key(handles=handles, columns=min(len({key.depth for key in networks}), 6))


def colour_map(name: str, blank: str) -> Colormap:
    """The named colour map, with a colour for cells without a number."""
    return matplotlib.colormaps[name].with_extremes(bad=blank)


# axes


def step_label(step: float) -> str:
    """``700``, ``1,000``, ``32k``: thousands are shortened from 10,000 on."""
    return f"{step / 1000:g}k" if abs(step) >= 10_000 else f"{step:,.0f}"


def draw_lines(
    axes: Axes, data: "pd.DataFrame", x: str, depths: Sequence[int], *, mixed: bool = False, **look: Any
) -> None:
    """Draw one line a network over the column ``x``, each with the band of its seeds."""
    for key, rows in series(data):
        line = line_style(key, depths, mixed=mixed)
        axes.plot(rows[x], rows["mean"], label=network_name(key), **look, **line)
        band(axes, rows, x, line["color"])
    draw_grid(axes)


def draw_grid(axes: Axes) -> None:
    """Draw thin level lines at the ticks of the y axis."""
    axes.grid(axis="y", color="0.92", linewidth=0.7)


def band(axes: Axes, rows: "pd.DataFrame", x: str, colour: str) -> None:
    """Fill the area from the lowest to the highest seed, if there are several."""
    if rows["seeds"].max() > 1:
        axes.fill_between(rows[x], rows["low"], rows["high"], color=colour, alpha=0.18, linewidth=0)


def spread_positions(ideal: Sequence[float], gap: float) -> list[float]:
    """Positions in 0..1 at least ``gap`` apart, in the order of the ideal ones, moved as little as possible.

    Pools neighbours that would overlap and centres each pool (isotonic regression).
    """
    order = np.argsort(ideal, kind="stable")
    pools: list[list[float]] = []
    for number, index in enumerate(order):
        pools.append([ideal[index] - number * gap])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    levels = [float(np.mean(pool)) for pool in pools for _ in pool]
    highest = max(1 - (len(ideal) - 1) * gap, 0.0)
    placed = {index: min(max(levels[n], 0.0), highest) + n * gap for n, index in enumerate(order)}
    return [placed[index] for index in range(len(ideal))]


def end_labels(axes: Axes, ends: Sequence[tuple[float, str, str]], inches: float) -> None:
    """Write each (y, text, colour) next to the right end of its line, moved apart.

    ``inches`` is the axes' height. Set the limits of the y axis before.
    """
    fractions = [float(axes.transAxes.inverted().transform(axes.transData.transform((0, y)))[1]) for y, _, _ in ends]
    places = spread_positions([min(max(f, 0.0), 1.0) for f in fractions], 0.15 / inches)
    for fraction, place, (_, text, colour) in zip(fractions, places, ends, strict=True):
        link = {"arrowstyle": "-", "relpos": (0, 0.5), "color": colour, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0}
        look: dict[str, Any] = {"va": "center", "fontsize": 8, "color": colour, "annotation_clip": False}
        axes.annotate(text, (1.0, fraction), (1.035, place), "axes fraction", "axes fraction", arrowprops=link, **look)
