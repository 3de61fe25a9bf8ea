"""The landscape frame -> training loss along a line and on a plane through the weights, as contours and in 3-D."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from degradation.figures import layout, style
from degradation.figures.tidy import SERIES, Kind, kinds, of_kind, over_seeds, study_frame
from degradation.study.results import Results

LEVELS = 14
HIGHEST = 1e4  # nats: a higher or non-finite loss is drawn as this
MAP = "viridis"


@style.in_style
def landscape(results: Results) -> tuple[Figure, pd.DataFrame]:
    """Draw two rows each kind of network: the line and each depth's contours; below, the same surfaces in 3-D.

    The data: SERIES, cut, statistics, x, y, quantity (loss or error) -> mean, low and high; of lines over seeds, of
    surfaces those of the lowest seed: there is no mean over different directions. Raises UserError if the experiment
    ``landscape`` was not run.
    """
    frame = study_frame(results, "landscape")
    used = frame[(frame["cut"] == "line") | (frame["seed"] == frame["seed"].min())]
    keys = ["cut", "statistics", "x", "y"]
    long = used.melt([*SERIES, *keys], ["loss", "error"], "quantity", "value")
    data = over_seeds(long, "value", [*keys, "quantity"])
    losses = data[data["quantity"] == "loss"]
    panels, depths = kinds(data), sorted(data["depth"].unique())
    title, size = "Training loss around the trained weights", (2.1 * (1 + len(depths)), 3.9 * len(panels))
    key = style.network_key(data, results.study.depths)
    figure = layout.page(results, title, _notes(frame, data), size, key, experiment=True)
    grid = figure.add_gridspec(2 * len(panels), 1 + len(depths), width_ratios=[1.25] + [1] * len(depths))
    scale = _scale(losses)
    contours: list[Axes] = []
    for number, kind in enumerate(panels):
        of_panel = of_kind(losses, kind)
        _lines(figure, grid, 2 * number, of_panel[of_panel["cut"] == "line"], results)
        for column, depth in enumerate(depths, start=1):
            rows = of_panel[(of_panel["depth"] == depth) & (of_panel["cut"] == "surface")]
            if len(rows):
                places = (grid[2 * number, column], grid[2 * number + 1, column])
                contours.append(_surface(figure, places, rows, scale))
                contours[-1].set_title(_name(kind, int(depth)), color=style.COLOURS[kind.network], fontweight="bold")
    if contours:
        bar = figure.colorbar(contours[0].collections[0], ax=contours, shrink=0.7, aspect=30, pad=0.01)
        bar.set_label("training loss (nats)")
        style.plain_numbers(bar.ax, scale.vmin, scale.vmax)
    return figure, data


def _name(kind: Kind, depth: int) -> str:
    letter = "" if kind.shortcut == "none" else f"-{kind.shortcut}"
    return style.in_arm(kind.arm, f"{kind.network}{letter}-{depth}")


def _scale(losses: pd.DataFrame) -> Any:
    """One logarithmic colour scale for all surfaces, so that they can be compared."""
    values = losses.loc[losses["cut"] == "surface", "mean"].clip(upper=HIGHEST)
    return LogNorm(vmin=max(float(values.min()), 1e-4), vmax=float(values.max())) if len(values) else LogNorm()


def _lines(figure: Figure, grid: GridSpec, row: int, data: pd.DataFrame, results: Results) -> None:
    """Draw the loss along the line, above with running statistics, below with batch statistics."""
    for place, statistics in enumerate(("running", "batch")):
        axes = figure.add_subplot(grid[row + place, 0])
        style.draw_lines(axes, data[data["statistics"] == statistics], "x", results.study.depths)
        axes.set_yscale("log")
        style.plain_numbers(axes, *axes.get_ylim())
        axes.set_title(f"line, {statistics} statistics")
        axes.set(xlabel="first direction (filter norms)", ylabel="training loss (nats)")


def _surface(figure: Figure, places: tuple[Any, Any], rows: pd.DataFrame, scale: Any) -> Axes:
    """Draw one surface as contours and in 3-D. Returns the axes of the contours."""
    table = rows.pivot(index="y", columns="x", values="mean")
    losses = np.nan_to_num(table.to_numpy(), nan=HIGHEST, posinf=HIGHEST).clip(max=HIGHEST)
    x, y = np.meshgrid(table.columns, table.index)
    above = figure.add_subplot(places[0])
    levels = np.geomspace(scale.vmin, scale.vmax, LEVELS)
    above.contourf(x, y, losses, levels=levels, norm=scale, cmap=MAP, extend="both")
    above.contour(x, y, losses, levels=levels, colors="white", linewidths=0.4)
    above.plot(0, 0, "+", color="white", markersize=6)
    above.set_aspect("equal")
    above.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    colours = style.colour_map(MAP, "white")
    surface_axes: Any = figure.add_subplot(places[1], projection="3d")
    face_colours = colours(scale(losses))
    surface_axes.plot_surface(x, y, np.log10(losses), facecolors=face_colours, rstride=1, cstride=1, shade=False)
    surface_axes.set_zlim(np.log10(scale.vmin), np.log10(scale.vmax))
    surface_axes.view_init(elev=28, azim=-60)
    surface_axes.set_box_aspect((1, 1, 0.8), zoom=1.3)
    for axis in (surface_axes.xaxis, surface_axes.yaxis, surface_axes.zaxis):
        axis.set_ticklabels([])
    return above


def _notes(frame: pd.DataFrame, data: pd.DataFrame) -> list[str]:
    return [
        "Random directions with the norm of each filter of the network (Li et al. 2018), the same numbers for a "
        "matched pair; axes in filter norms, the trained network in the centre. Batch norm's gamma and beta and all "
        "biases are unchanged.",
        f"Loss of {int(frame['examples'].min()):,} clean training images. Surfaces: running statistics, those of the "
        f"trained network, at every point; of seed {int(frame['seed'].min())}; height in 3-D: logarithm of the loss, "
        f"on one scale for all. {layout.seed_note(data[data['cut'] == 'line'])}",
    ]
