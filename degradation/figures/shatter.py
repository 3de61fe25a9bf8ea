"""The shatter frame -> correlation of input gradients against the inputs' distance, and of neighbours against depth."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from degradation.figures import layout, style
from degradation.figures.gradient_flow import name_row
from degradation.figures.tidy import kinds, measured, of_kind, over_seeds, series
from degradation.study.results import Results

STATES = {"initial": "at initialization", "trained": "trained"}
REFERENCES = {"white noise": (0, (1, 1.2)), "brownian": (0, (5, 1.5))}
NOTE = (
    "Cosine of the gradients of a random combination of the logits with respect to two inputs, on straight lines "
    "between two clean training images; distance 1: from one image to the other. A linear network has 1 everywhere. "
    "Batch norm in evaluation mode; at initialization with statistics estimated over training images."
)


def shatter_data(frame: pd.DataFrame) -> pd.DataFrame:
    """SERIES, source, lag, distance -> mean, low and high over seeds of the correlation."""
    return over_seeds(frame, "correlation", ["source", "lag", "distance"])


@style.in_style
def shatter(results: Results) -> tuple[Figure, pd.DataFrame]:
    """A row each kind of network; columns: at initialization, trained, and nearest neighbours against depth.

    Raises UserError if the experiment ``shatter`` was not run.
    """
    frame = measured(results, "shatter", "shatter")
    data = shatter_data(frame)
    networks, panels = data[data["source"].isin(list(STATES))], kinds(data)
    lines, near = int(frame["lines"].min()), float(frame["distance"].min())
    notes = [
        NOTE,
        f"{lines} lines with {int(frame['points'].min())} inputs each. Grey: white noise (dotted) and Brownian motion "
        f"along the line (dashed). Right: inputs at the least distance, {near:.3g}. {layout.seed_note(networks)}",
    ]
    words = layout.Texts(title="How similar the gradients of neighbouring inputs are", notes=notes, experiment=True)
    key = style.network_key(networks, results.study.depths, mixed=False)
    figure = layout.page(results, words, (9.8, 2.3 * len(panels)), key)
    grid = figure.subplots(len(panels), 3, sharex="col", sharey=True, squeeze=False)
    for row, kind in zip(grid, panels, strict=True):
        part = of_kind(data, kind)
        for axes, state in zip(row, STATES, strict=False):
            _references(axes, part)
            _by_distance(axes, part[part["source"] == state], results)
        _by_depth(row[2], part[part["lag"] == 1], style.COLOURS[kind.network])
        name_row(row, kind, "correlation of gradients")
    for axes, title in zip(grid[0], [*STATES.values(), "nearest neighbours"], strict=True):
        axes.set_title(title, fontweight="bold")
    grid[0, 2].set_xticks(sorted(data["depth"].unique()))  # shared by the column
    for axes, label in zip(grid[-1], ["distance of the inputs"] * 2 + ["depth"], strict=True):
        axes.set_xlabel(label)
    return figure, data


def _references(axes: Axes, data: pd.DataFrame) -> None:
    for source, dashes in REFERENCES.items():
        rows = data[data["source"] == source].groupby("distance")["mean"].mean()
        axes.plot(rows.index, rows, color="0.5", linewidth=1, linestyle=dashes, label=source, zorder=1)


def _by_distance(axes: Axes, data: pd.DataFrame, results: Results) -> None:
    for key, rows in series(data):
        look = style.line_style(key, results.study.depths, mixed=False)
        axes.plot(rows["distance"], rows["mean"], label=style.network_name(key), **look)
        style.band(axes, rows, "distance", look["color"])
    axes.set_ylim(-0.1, 1.05)
    axes.grid(axis="y", color="0.92", linewidth=0.7)


def _by_depth(axes: Axes, data: pd.DataFrame, colour: str) -> None:
    handles = []
    looks: list[tuple[str, Any]] = list(zip(STATES, ("--", "-"), strict=True))
    for state, dashes in looks:
        rows = data[data["source"] == state].sort_values("depth")
        axes.plot(rows["depth"], rows["mean"], marker="o", markersize=3, color=colour, linestyle=dashes)
        style.band(axes, rows, "depth", colour)
        handles.append(Line2D([], [], color=colour, linestyle=dashes, label=STATES[state]))
    axes.grid(axis="y", color="0.92", linewidth=0.7)
    axes.legend(handles=handles, loc="best")
