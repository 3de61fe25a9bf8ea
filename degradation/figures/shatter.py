"""The shatter frame -> correlation of input gradients against the inputs' distance, and of neighbours against depth."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from degradation.figures import layout, style
from degradation.figures.tidy import kinds, of_kind, over_seeds, study_frame
from degradation.study.results import Results

STATES = {"initial": "at initialization", "trained": "trained"}
DASHES: dict[str, Any] = {"initial": "--", "trained": "-"}
REFERENCES = {"white noise": (0, (1, 1.2)), "brownian": (0, (5, 1.5))}
NOTE = (
    "Cosine of the gradients of a random combination of the logits with respect to two inputs, on straight lines "
    "between two clean training images; distance 1: from one image to the other. A linear network has 1 everywhere. "
    "Batch norm in evaluation mode; at initialization with statistics estimated over training images."
)


@style.in_style
def shatter(results: Results) -> tuple[Figure, pd.DataFrame]:
    """Draw a row each kind of network; columns: at initialization, trained, and nearest neighbours against depth.

    The data: SERIES, source, lag, distance -> mean, low and high over seeds of the correlation. Raises UserError if the
    experiment ``shatter`` was not run.
    """
    frame = study_frame(results, "shatter")
    data = over_seeds(frame, "correlation", ["source", "lag", "distance"])
    networks, panels, depths = data[data["source"].isin(list(STATES))], kinds(data), results.study.depths
    count, near = int(frame["lines"].min()), float(frame["distance"].min())
    notes = [
        NOTE,
        f"{count} lines with {int(frame['points'].min())} inputs each. Grey: white noise (dotted) and Brownian motion "
        f"along the line (dashed). Right: inputs at the least distance, {near:.3g}. {layout.seed_note(networks)}",
    ]
    title, key = "How similar the gradients of neighbouring inputs are", style.network_key(networks, depths)
    figure = layout.page(results, title, notes, (9.8, 2.3 * len(panels)), key, experiment=True)
    grid = figure.subplots(len(panels), 3, sharex="col", sharey=True, squeeze=False)
    for row, kind in zip(grid, panels, strict=True):
        part = of_kind(data, kind)
        for axes, state in zip(row, STATES, strict=False):
            _references(axes, part)
            style.draw_lines(axes, part[part["source"] == state], "distance", depths)
            axes.set_ylim(-0.1, 1.05)
        _by_depth(row[2], part[part["lag"] == 1], style.COLOURS[kind.network])
    titles, below = [*STATES.values(), "nearest neighbours"], ["distance of the inputs"] * 2 + ["depth"]
    layout.name_panels(grid, panels, "correlation of gradients", titles, below)
    grid[0, 2].set_xticks(sorted(data["depth"].unique()))  # shared by the column
    return figure, data


def _references(axes: Axes, data: pd.DataFrame) -> None:
    for source, dashes in REFERENCES.items():
        rows = data[data["source"] == source].groupby("distance")["mean"].mean()
        axes.plot(rows.index, rows, color="0.5", linewidth=1, linestyle=dashes, label=source, zorder=1)


def _by_depth(axes: Axes, data: pd.DataFrame, colour: str) -> None:
    handles = []
    for state, dashes in DASHES.items():
        rows = data[data["source"] == state].sort_values("depth")
        axes.plot(rows["depth"], rows["mean"], marker="o", markersize=3, color=colour, linestyle=dashes)
        style.band(axes, rows, "depth", colour)
        handles.append(Line2D([], [], color=colour, linestyle=dashes, label=STATES[state]))
    style.draw_grid(axes)
    axes.legend(handles=handles, loc="best")
