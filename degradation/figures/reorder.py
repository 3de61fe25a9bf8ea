"""The reorder frame -> error against Kendall's tau of the blocks' order, a row a kind of network."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from degradation.figures import layout, style
from degradation.figures.lesion import STATISTICS, draw_chance, examples_of
from degradation.figures.tidy import SERIES, kinds, of_kind, series, study_frame
from degradation.study.results import Results

BIN = 0.05
"""Width in tau of a bin of the mean line: exchanges can undo each other, so their number is not a measure."""


@style.in_style
def reorder(results: Results) -> tuple[Figure, pd.DataFrame]:
    """Draw test error of the trained networks with blocks exchanged within stages, against Kendall's tau.

    The data: each run's error (a fraction) in each order. Raises UserError if the experiment ``reorder`` was not run.
    """
    frame = study_frame(results, "reorder")
    columns = [*SERIES, "seed", "statistics", "swaps", "draw", "tau", "error"]
    data = frame[columns].sort_values(columns).reset_index(drop=True)
    panels, depths = kinds(data), results.study.depths
    shown = [name for name in STATISTICS if (data["statistics"] == name).any()]
    figure = layout.page(
        results,
        "Test error of the trained networks with their blocks in another order",
        [
            "Each point is one order of one seed: blocks that keep the shape, exchanged within their stage; the same "
            "orders in a matched pair. Kendall's tau over all blocks: 1 is the order of training. Lines: mean over "
            f"orders and seeds by steps of {BIN} in tau. Depth 8 has nothing to exchange. Grey: chance.",
            f"Errors on {examples_of(frame)} clean test images.",
        ],
        (8.0, (2.5 if len(panels) < 3 else 1.9) * len(panels)),
        style.network_key(data, depths),
        experiment=True,
    )
    grid = figure.subplots(len(panels), len(shown), sharex=True, sharey=True, squeeze=False)
    for row, kind in zip(grid, panels, strict=True):
        part = of_kind(data, kind)
        for axes, statistics in zip(row, shown, strict=True):
            _panel(axes, part[part["statistics"] == statistics], depths)
    titles = [f"statistics {STATISTICS[statistics]}" for statistics in shown]
    below = ["Kendall's tau with the order of training"] * len(shown)
    layout.name_panels(grid, panels, "test error (%)", titles, below)
    grid[0, 0].invert_xaxis()
    return figure, data


def _panel(axes: Axes, data: pd.DataFrame, depths: Sequence[int]) -> None:
    for key, rows in series(data):
        look = style.line_style(key, depths)
        axes.plot(rows["tau"], rows["error"], "o", markersize=2.2, alpha=0.45, color=look["color"])
        bins = (rows["tau"] // BIN).where(rows["tau"] < 1, 2 / BIN)  # the order of training has a bin of its own
        mean = rows.groupby(bins)[["tau", "error"]].mean()
        axes.plot(mean["tau"], mean["error"], **look)
    draw_chance(axes)
    style.draw_grid(axes)
