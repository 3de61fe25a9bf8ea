"""The lesion frame -> error without each block in turn, and without k random blocks, a row a kind of network."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from degradation.figures import layout, style
from degradation.figures.tidy import SERIES, kinds, of_kind, over_seeds, series, study_frame
from degradation.study.results import Results

EACH, SEVERAL = "each block", "random blocks"
STATISTICS = {"running": "as trained", "re-estimated": "re-estimated"}
CHANCE = 0.9  # of ten classes


def lesion_data(frame: pd.DataFrame) -> pd.DataFrame:
    """SERIES, panel, statistics, x, keeps_shape -> mean, low, high over seeds of the error (a fraction).

    Panel ``each block``: x is the block deleted, 0 for none. Panel ``random blocks``: x is the number of blocks
    deleted among those that keep their shape; 1 is the mean over each such block alone, and the draws of a run are
    averaged first.
    """
    single = frame.assign(panel=EACH, x=frame["block"])[frame["kind"] != "random"]
    several = frame.assign(panel=SEVERAL, x=frame["deleted"])
    several = several[(frame["kind"] != "single") | (frame["keeps_shape"] == 1)]
    columns = ["panel", "statistics", "x", "keeps_shape"]
    groups = pd.concat([single, several]).groupby([*SERIES, "run_id", *columns], observed=True, dropna=False)
    return over_seeds(groups["error"].mean().reset_index(), "error", columns)


@style.in_style
def lesion(results: Results) -> tuple[Figure, pd.DataFrame]:
    """Draw test error after deleting each block alone, then k at random; statistics as trained, re-estimated.

    Raises UserError if the experiment ``lesion`` was not run.
    """
    frame = study_frame(results, "lesion")
    data = lesion_data(frame)
    panels, depths = kinds(data), results.study.depths
    columns = [(panel, name) for panel in (EACH, SEVERAL) for name in STATISTICS if (data["statistics"] == name).any()]
    figure = layout.page(
        results,
        "Test error after deleting blocks of the trained networks",
        _notes(frame, data),
        (9.8, (2.4 if len(panels) < 3 else 1.9) * len(panels)),
        style.network_key(data, depths),
        experiment=True,
    )
    grid = figure.subplots(len(panels), len(columns), sharex="col", sharey=True, squeeze=False)
    for row, kind in zip(grid, panels, strict=True):
        part = of_kind(data, kind)
        for axes, (panel, statistics) in zip(row, columns, strict=True):
            shown = part[(part["panel"] == panel) & (part["statistics"] == statistics)]
            if panel == EACH:
                _each_block(axes, shown, depths)
            else:
                style.draw_lines(axes, shown, "x", depths, marker="o", markersize=2.4)
            draw_chance(axes)
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    titles = [f"{panel},\nstatistics {STATISTICS[statistics]}" for panel, statistics in columns]
    below = ["block deleted" if panel == EACH else "blocks deleted" for panel, _ in columns]
    layout.name_panels(grid, panels, "test error (%)", titles, below)
    return figure, data


def _each_block(axes: Axes, data: pd.DataFrame, depths: Sequence[int]) -> None:
    """Draw a point per block, joined, and the whole network's error as a thin level line."""
    for key, rows in series(data):
        colour = style.shade(key.network, key.depth, depths)
        whole, without = rows[rows["x"] == 0], rows[rows["x"] > 0]
        axes.plot(without["x"], without["mean"], marker="o", markersize=2.4, linewidth=0.9, color=colour)
        rings = without[without["keeps_shape"] == 0]
        axes.plot(rings["x"], rings["mean"], "o", markersize=4.5, markerfacecolor="white", color=colour)
        axes.hlines(whole["mean"], 0.5, without["x"].max() + 0.5, color=colour, linewidth=0.9, linestyle=":")
    style.draw_grid(axes)


def draw_chance(axes: Axes) -> None:
    """Let the y axis show errors from 0 to 100 %, with a line at the error of guessing."""
    axes.axhline(CHANCE, color="0.6", linewidth=0.9, zorder=0)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(FuncFormatter(style.percent))


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
    """The number of examples that the rows of an experiment used: ``500``, ``200 to 500``."""
    counts = sorted(frame.loc[frame["examples"] > 0, "examples"].unique())
    return f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
