"""The lesion frame -> error without each block in turn, and without k random blocks, a row a kind of network."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from degradation.figures import layout, style
from degradation.figures.gradient_flow import name_row
from degradation.figures.tidy import SERIES, kinds, measured, of_kind, over_seeds, series
from degradation.study.results import Results

EACH, SEVERAL = "each block", "random blocks"
STATISTICS = {"running": "as trained", "re-estimated": "re-estimated"}
CHANCE = 0.9  # of ten classes


def lesion_data(frame: pd.DataFrame) -> pd.DataFrame:
    """SERIES, panel, statistics, x, keeps_shape -> mean, low, high over seeds of the error (a fraction).

    Panel ``each block``: x the block deleted, 0 for none. Panel ``random blocks``: x how many, among those that keep
    their shape; 1 is the mean over each such block alone, and the draws of a run are averaged first.
    """
    one = frame[frame["kind"] != "random"].assign(panel=EACH, x=lambda rows: rows["block"])
    several = frame[(frame["kind"] != "single") | (frame["keeps_shape"] == 1)]
    several = several.assign(panel=SEVERAL, x=several["deleted"])
    by = ["panel", "statistics", "x", "keeps_shape"]
    keys = [*SERIES, "run_id", *by]
    means = pd.concat([one, several]).groupby(keys, observed=True, dropna=False)["error"].mean().reset_index()
    return over_seeds(means, "error", by)


@style.in_style
def lesion(results: Results) -> tuple[Figure, pd.DataFrame]:
    """Test error after deleting blocks: each alone, then k at random; batch-norm statistics as trained, re-estimated.

    Raises UserError if the experiment ``lesion`` was not run.
    """
    frame = measured(results, "lesion", "lesion")
    data = lesion_data(frame)
    panels = kinds(data)
    columns = [(panel, name) for panel in (EACH, SEVERAL) for name in STATISTICS if (data["statistics"] == name).any()]
    words = layout.Texts(
        title="Test error after deleting blocks of the trained networks", notes=_notes(frame, data), experiment=True
    )
    height = (2.4 if len(panels) < 3 else 1.9) * len(panels)
    key = style.network_key(data, results.study.depths, mixed=False)
    figure = layout.page(results, words, (9.8, height), key)
    grid = figure.subplots(len(panels), len(columns), sharex="col", sharey=True, squeeze=False)
    for row, kind in zip(grid, panels, strict=True):
        part = of_kind(data, kind)
        for axes, (panel, statistics) in zip(row, columns, strict=True):
            shown = part[(part["panel"] == panel) & (part["statistics"] == statistics)]
            (_each if panel == EACH else _several)(axes, shown, results)
        name_row(row, kind, "test error (%)")
    for axes, (panel, statistics) in zip(grid[0], columns, strict=True):
        axes.set_title(f"{panel},\nstatistics {STATISTICS[statistics]}", fontweight="bold")
    for axes, (panel, _) in zip(grid[-1], columns, strict=True):
        axes.set_xlabel("block deleted" if panel == EACH else "blocks deleted")
    return figure, data


def _each(axes: Axes, data: pd.DataFrame, results: Results) -> None:
    """A point per block, joined; the whole network's error as a thin level line."""
    for key, rows in series(data):
        look = style.line_style(key, results.study.depths, mixed=False)
        whole, without = rows[rows["x"] == 0], rows[rows["x"] > 0]
        axes.plot(without["x"], without["mean"], marker="o", markersize=2.4, linewidth=0.9, color=look["color"])
        rings = without[without["keeps_shape"] == 0]
        axes.plot(rings["x"], rings["mean"], "o", markersize=4.5, markerfacecolor="white", color=look["color"])
        axes.hlines(whole["mean"], 0.5, without["x"].max() + 0.5, color=look["color"], linewidth=0.9, linestyle=":")
    _dress(axes)


def _several(axes: Axes, data: pd.DataFrame, results: Results) -> None:
    for key, rows in series(data):
        look = style.line_style(key, results.study.depths, mixed=False)
        axes.plot(rows["x"], rows["mean"], marker="o", markersize=2.4, **look)
        style.band(axes, rows, "x", look["color"])
    _dress(axes)


def _dress(axes: Axes) -> None:
    axes.axhline(CHANCE, color="0.6", linewidth=0.9, zorder=0)
    axes.set_ylim(0, 1)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(style.percent))
    axes.grid(axis="y", color="0.92", linewidth=0.7)


def _notes(frame: pd.DataFrame, data: pd.DataFrame) -> list[str]:
    return [
        "A residual block is deleted by switching off its branch, a plain one by skipping it. Plain blocks that change "
        "the shape cannot be skipped: a gap in the line. Random blocks are drawn among those that keep the shape, the "
        "same ones in a matched pair. Rings: blocks that change the shape. Dotted: no block deleted. Grey: chance.",
        f"Errors on {examples_of(frame)} clean test images. Re-estimated: the running statistics of batch norm "
        "replaced, after the deletion, by those of at most as many augmented training images.",
        layout.seed_note(data),
    ]


def examples_of(frame: pd.DataFrame) -> str:
    """How many examples the rows of an experiment used: ``500``, ``200 to 500``."""
    counts = sorted(frame.loc[frame["examples"] > 0, "examples"].unique())
    return f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
