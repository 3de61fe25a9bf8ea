"""The landscape frame -> training loss along a line and on a plane through the weights, as contours and in 3-D."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from degradation.figures import layout, style
from degradation.figures.tidy import SERIES, Kind, kinds, measured, of_kind, over_seeds, series
from degradation.study.results import Results

LEVELS = 14
HIGHEST = 1e4  # nats: a higher or non-finite loss is drawn as this
MAP = "viridis"


def landscape_data(frame: pd.DataFrame) -> pd.DataFrame:
    """SERIES, cut, statistics, x, y, quantity -> mean, low and high: of lines over seeds, of surfaces one seed's.

    ``quantity`` is loss or error. A surface is that of the lowest seed: there is no mean over different directions.
    """
    line = frame[frame["cut"] == "line"]
    surface = frame[(frame["cut"] == "surface") & (frame["seed"] == frame["seed"].min())]
    keys = ["cut", "statistics", "x", "y"]
    long = pd.concat([line, surface]).melt([*SERIES, *keys], ["loss", "error"], "quantity", "value")
    return over_seeds(long, "value", [*keys, "quantity"])


@style.in_style
def landscape(results: Results) -> tuple[Figure, pd.DataFrame]:
    """Two rows each kind of network: the line and each depth's contours; below, the same surfaces in 3-D.

    Raises UserError if the experiment ``landscape`` was not run.
    """
    frame = measured(results, "landscape", "landscape")
    data = landscape_data(frame)
    panels, depths = kinds(data), sorted(data["depth"].unique())
    words = layout.Texts(title="Training loss around the trained weights", notes=_notes(frame, data), experiment=True)
    key = style.network_key(data, results.study.depths, mixed=False)
    figure = layout.page(results, words, (2.1 * (1 + len(depths)), 3.9 * len(panels)), key)
    grid = figure.add_gridspec(2 * len(panels), 1 + len(depths), width_ratios=[1.25] + [1] * len(depths))
    scale = _scale(data)
    flat: list[Axes] = []
    for number, kind in enumerate(panels):
        _lines(figure, grid, 2 * number, of_kind(data, kind), results)
        for column, depth in enumerate(depths, start=1):
            rows = of_kind(data, kind)
            rows = rows[(rows["depth"] == depth) & (rows["cut"] == "surface") & (rows["quantity"] == "loss")]
            if len(rows):
                places = (grid[2 * number, column], grid[2 * number + 1, column])
                flat.append(_surface(figure, places, rows, scale))
                flat[-1].set_title(_name(kind, int(depth)), color=style.COLOURS[kind.network], fontweight="bold")
    if flat:
        bar = figure.colorbar(flat[0].collections[0], ax=flat, shrink=0.7, aspect=30, pad=0.01)
        bar.set_label("training loss (nats)")
        style.plain_numbers(bar.ax, scale.vmin, scale.vmax)
    return figure, data


def _name(kind: Kind, depth: int) -> str:
    letter = "" if kind.shortcut == "none" else f"-{kind.shortcut}"
    return style.in_arm(kind.arm, f"{kind.network}{letter}-{depth}")


def _scale(data: pd.DataFrame) -> Any:
    """One logarithmic colour scale for all surfaces, so that they can be compared."""
    losses = data.loc[(data["cut"] == "surface") & (data["quantity"] == "loss"), "mean"].clip(upper=HIGHEST)
    return LogNorm(vmin=max(float(losses.min()), 1e-4), vmax=float(losses.max())) if len(losses) else LogNorm()


def _lines(figure: Figure, grid: GridSpec, row: int, data: pd.DataFrame, results: Results) -> None:
    """Loss along the line: above with running statistics, below with batch statistics."""
    for place, statistics in enumerate(("running", "batch")):
        axes = figure.add_subplot(grid[row + place, 0])
        part = data[(data["cut"] == "line") & (data["quantity"] == "loss") & (data["statistics"] == statistics)]
        for key, rows in series(part):
            look = style.line_style(key, results.study.depths, mixed=False)
            axes.plot(rows["x"], rows["mean"], label=style.network_name(key), **look)
            style.band(axes, rows, "x", look["color"])
        axes.set_yscale("log")
        style.plain_numbers(axes, *axes.get_ylim())
        axes.set_xlabel("first direction (filter norms)")
        axes.set_title(f"line, {statistics} statistics")
        axes.set_ylabel("training loss (nats)")
        axes.grid(axis="y", color="0.92", linewidth=0.7)


def _surface(figure: Figure, places: tuple[Any, Any], rows: pd.DataFrame, scale: Any) -> Axes:
    """One surface, seen from above and from the side; the axes of the contours."""
    table = rows.pivot(index="y", columns="x", values="mean")
    losses = np.nan_to_num(table.to_numpy(), nan=HIGHEST, posinf=HIGHEST).clip(max=HIGHEST)
    x, y = np.meshgrid(table.columns, table.index)
    above = figure.add_subplot(places[0])
    levels = np.geomspace(scale.vmin, scale.vmax, LEVELS)
    above.contourf(x, y, losses, levels=levels, norm=scale, cmap=MAP, extend="both")
    above.contour(x, y, losses, levels=levels, colors="white", linewidths=0.4)
    above.plot(0, 0, "+", color="white", markersize=6)
    above.set_aspect("equal")
    above.set_xticks([-1, 0, 1])
    above.set_yticks([-1, 0, 1])
    colours = style.colour_map(MAP, "white")
    surface_axes: Any = figure.add_subplot(places[1], projection="3d")
    surface_axes.plot_surface(
        x,
        y,
        np.log10(losses),
        facecolors=colours(scale(losses)),
        rstride=1,
        cstride=1,
        shade=False,
    )
    surface_axes.set_zlim(np.log10(scale.vmin), np.log10(scale.vmax))
    surface_axes.view_init(elev=28, azim=-60)
    surface_axes.set_box_aspect((1, 1, 0.8), zoom=1.3)
    for axis in (surface_axes.xaxis, surface_axes.yaxis, surface_axes.zaxis):
        axis.set_ticklabels([])
    return above


def _notes(frame: pd.DataFrame, data: pd.DataFrame) -> list[str]:
    count = int(frame["examples"].min())
    lines = data[data["cut"] == "line"]
    return [
        "Random directions with the norm of each filter of the network (Li et al. 2018), the same numbers for a "
        "matched pair; axes in filter norms, the trained network in the centre. Batch norm's gamma and beta and all "
        "biases are unchanged.",
        f"Loss of {count:,} clean training images. Surfaces: running statistics, those of the trained network, at "
        f"every point; of seed {int(frame['seed'].min())}; height in 3-D: logarithm of the loss, on one scale for all. "
        f"{layout.seed_note(lines)}",
    ]
