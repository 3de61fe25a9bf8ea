"""The paths frame -> gradient norm against path length, how many paths there are, and the product of the two."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from degradation.errors import UserError
from degradation.figures import layout, style
from degradation.figures.gradient_flow import name_row
from degradation.figures.tidy import SERIES, kinds, measured, of_kind, over_seeds, series
from degradation.study.results import Results

PANELS = {
    "norm": "gradient norm of a path\n/ of all paths",
    "share": "share of all paths",
    "product": "share of the sum of norms",
}


def paths_data(frame: pd.DataFrame) -> pd.DataFrame:
    """SERIES, length, quantity -> mean, low and high over seeds.

    ``norm``: geometric mean over a run's paths of the gradient's norm, over that along all paths; ``share``: of all
    paths; ``product``: norm times paths, as a share of its sum over all lengths (Veit et al. 2016, Figure 6).
    """
    keys = [*SERIES, "run_id", "length"]
    frame = frame.assign(log=np.log(frame["gradient_norm"] / frame["full_gradient_norm"]))
    runs = frame.groupby(keys, observed=True).agg(log=("log", "mean"), share=("share", "first")).reset_index()
    runs = runs.assign(norm=np.exp(runs["log"]))
    product = runs["norm"] * runs["share"]
    runs = runs.assign(product=product / product.groupby(runs["run_id"]).transform("sum")).drop(columns="log")
    long = runs.melt(keys, list(PANELS), "quantity", "value")
    return over_seeds(long, "value", ["length", "quantity"])


@style.in_style
def paths(results: Results) -> tuple[Figure, pd.DataFrame]:
    """A row each residual network; columns: norm by length, distribution of lengths, their product.

    Raises UserError if the experiment ``paths`` was not run, or only on plain networks.
    """
    frame = measured(results, "paths", "paths")
    frame = frame[frame["network"] == "residual"]
    if frame.empty:
        raise UserError("figure paths needs a residual network: a plain one has a single path")
    data = paths_data(frame)
    panels = kinds(data)
    words = layout.Texts(
        title="Paths through a residual network: gradient norm, number, and their product",
        notes=_notes(frame, data),
        experiment=True,
    )
    key = style.network_key(data, results.study.depths, mixed=False)
    figure = layout.page(results, words, (9.8, (3.0 if len(panels) < 2 else 2.3) * len(panels)), key)
    grid = figure.subplots(len(panels), len(PANELS), sharex=True, sharey="col", squeeze=False)
    for row, kind in zip(grid, panels, strict=True):
        for axes, quantity in zip(row, PANELS, strict=True):
            part = of_kind(data, kind)
            _by_length(axes, part[part["quantity"] == quantity], results)
        row[0].set_yscale("log")
        name_row(row, kind, PANELS["norm"])
    for axes, title in zip(grid[0], ("one path", "number of paths", "number times norm"), strict=True):
        axes.set_title(title, fontweight="bold")
    for axes, quantity in zip(grid[:, 1:].T, list(PANELS)[1:], strict=True):
        for each in axes:
            each.set_ylabel(PANELS[quantity])
    for axes in grid[-1]:
        axes.set_xlabel("blocks on the path")
    return figure, data


def _by_length(axes: Axes, data: pd.DataFrame, results: Results) -> None:
    for key, rows in series(data):
        look = style.line_style(key, results.study.depths, mixed=False)
        axes.plot(rows["length"], rows["mean"], marker="o", markersize=2.4, label=style.network_name(key), **look)
        style.band(axes, rows, "length", look["color"])
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(axis="y", color="0.92", linewidth=0.7)


def _notes(frame: pd.DataFrame, data: pd.DataFrame) -> list[str]:
    draws = int(frame.groupby(["run_id", "length"]).size().max())
    return [
        "A path takes the branch of k blocks and the shortcut of all others; the gradient is that of the mean loss at "
        f"the input, for one batch of {int(frame['examples'].max())} training images in evaluation mode; geometric "
        f"mean of up to {draws} random paths of each length. Right: norm times the number of paths; norms do not add "
        f"up like gradients. {layout.seed_note(data)}",
    ]
