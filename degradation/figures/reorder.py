"""The reorder frame -> error against Kendall's tau of the blocks' order, a row a kind of network."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from degradation.figures import layout, style
from degradation.figures.gradient_flow import name_row
from degradation.figures.lesion import CHANCE, STATISTICS, examples_of
from degradation.figures.tidy import SERIES, kinds, measured, of_kind, series
from degradation.study.results import Results

BIN = 0.05
"""Width in tau of a bin of the mean line: exchanges can undo each other, so their number is no measure."""


def reorder_data(frame: pd.DataFrame) -> pd.DataFrame:
    """Each run's error (a fraction) in each order: SERIES, seed, statistics, swaps, draw, tau, error."""
    columns = [*SERIES, "seed", "statistics", "swaps", "draw", "tau", "error"]
    return frame[columns].sort_values(columns).reset_index(drop=True)


@style.in_style
def reorder(results: Results) -> tuple[Figure, pd.DataFrame]:
    """Test error of the trained networks with blocks exchanged within stages, against Kendall's tau.

    Raises UserError if the experiment ``reorder`` was not run.
    """
    frame = measured(results, "reorder", "reorder")
    data = reorder_data(frame)
    panels = kinds(data)
    columns = [name for name in STATISTICS if (data["statistics"] == name).any()]
    words = layout.Texts(
        title="Test error of the trained networks with their blocks in another order",
        notes=[
            "Each point is one order of one seed: blocks that keep the shape, exchanged within their stage; the same "
            "orders in a matched pair. Kendall's tau over all blocks: 1 is the order of training. Lines: mean over "
            f"orders and seeds by steps of {BIN} in tau. Depth 8 has nothing to exchange. Grey: chance.",
            f"Errors on {examples_of(frame)} clean test images.",
        ],
        experiment=True,
    )
    height = (2.5 if len(panels) < 3 else 1.9) * len(panels)
    key = style.network_key(data, results.study.depths, mixed=False)
    figure = layout.page(results, words, (8.0, height), key)
    grid = figure.subplots(len(panels), len(columns), sharex=True, sharey=True, squeeze=False)
    for row, kind in zip(grid, panels, strict=True):
        part = of_kind(data, kind)
        for axes, statistics in zip(row, columns, strict=True):
            _panel(axes, part[part["statistics"] == statistics], results)
        name_row(row, kind, "test error (%)")
    for axes, statistics in zip(grid[0], columns, strict=True):
        axes.set_title(f"statistics {STATISTICS[statistics]}", fontweight="bold")
    for axes in grid[-1]:
        axes.set_xlabel("Kendall's tau with the order of training")
    grid[0, 0].invert_xaxis()
    return figure, data


def _panel(axes: Axes, data: pd.DataFrame, results: Results) -> None:
    for key, rows in series(data):
        look = style.line_style(key, results.study.depths, mixed=False)
        axes.plot(rows["tau"], rows["error"], "o", markersize=2.2, alpha=0.45, color=look["color"])
        bins = (rows["tau"] // BIN).where(rows["tau"] < 1, 2 / BIN)  # the order of training has a bin of its own
        mean = rows.groupby(bins)[["tau", "error"]].mean()
        axes.plot(mean["tau"], mean["error"], **look)
    axes.axhline(CHANCE, color="0.6", linewidth=0.9, zorder=0)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(FuncFormatter(style.percent))
    axes.grid(axis="y", color="0.92", linewidth=0.7)
