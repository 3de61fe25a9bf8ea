"""The paths frame -> gradient norm against path length, how many paths there are, and the product of the two."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from degradation.errors import UserError
from degradation.figures import layout, style
from degradation.figures.tidy import SERIES, kinds, of_kind, over_seeds, study_frame
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
    runs["norm"] = np.exp(runs["log"])
    product = runs["norm"] * runs["share"]
    runs["product"] = product / product.groupby(runs["run_id"]).transform("sum")
    return over_seeds(runs.melt(keys, list(PANELS), "quantity", "value"), "value", ["length", "quantity"])


@style.in_style
def paths(results: Results) -> tuple[Figure, pd.DataFrame]:
    """Draw a row each residual network; columns: norm by length, distribution of lengths, their product.

    Raises UserError if the experiment ``paths`` was not run, or only on plain networks.
    """
    frame = study_frame(results, "paths")
    frame = frame[frame["network"] == "residual"]
    if frame.empty:
        raise UserError("figure paths needs a residual network: a plain one has a single path")
    data = paths_data(frame)
    panels, depths = kinds(data), results.study.depths
    figure = layout.page(
        results,
        "Paths through a residual network: gradient norm, number, and their product",
        _notes(frame, data),
        (9.8, (3.0 if len(panels) < 2 else 2.3) * len(panels)),
        style.network_key(data, depths),
        experiment=True,
    )
    grid = figure.subplots(len(panels), len(PANELS), sharex=True, sharey="col", squeeze=False)
    for row, kind in zip(grid, panels, strict=True):
        part = of_kind(data, kind)
        for axes, (quantity, label) in zip(row, PANELS.items(), strict=True):
            rows = part[part["quantity"] == quantity]
            style.draw_lines(axes, rows, "length", depths, marker="o", markersize=2.4)
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            axes.set_ylabel(label)
        row[0].set_yscale("log")
    titles = ["one path", "number of paths", "number times norm"]
    layout.name_panels(grid, panels, PANELS["norm"], titles, ["blocks on the path"] * len(PANELS))
    return figure, data


def _notes(frame: pd.DataFrame, data: pd.DataFrame) -> list[str]:
    draws = int(frame.groupby(["run_id", "length"]).size().max())
    return [
        "A path takes the branch of k blocks and the shortcut of all others; the gradient is that of the mean loss at "
        f"the input, for one batch of {int(frame['examples'].max())} training images in evaluation mode; geometric "
        f"mean of up to {draws} random paths of each length. Right: norm times the number of paths; norms do not add "
        f"up like gradients. {layout.seed_note(data)}",
    ]
