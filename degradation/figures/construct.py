"""The construct frame -> training error of a network and of the deeper one made from it, in further training."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from degradation.figures import layout, style
from degradation.figures.gradient_flow import name_row
from degradation.figures.tidy import kinds, last_rows, measured, of_kind, over_seeds
from degradation.study.results import Results

MADE: dict[str, Any] = {"shallow": "--", "deep": "-"}
STATISTICS = {"running": 1.6, "batch": 0.8}
"""Batch-norm statistics -> width of the line."""


def construct_data(frame: pd.DataFrame) -> pd.DataFrame:
    """SERIES, made, made_depth, statistics, step -> mean, low and high over seeds of the training error."""
    return over_seeds(frame, "error", ["made", "made_depth", "statistics", "step"])


@style.in_style
def construct(results: Results) -> tuple[Figure, pd.DataFrame]:
    """A row each kind of network, a column each depth that was deepened.

    Where the study has trained the deeper depth from scratch, its last training error is a dotted level. Raises
    UserError if the experiment ``construct`` was not run.
    """
    frame = measured(results, "construct", "construct")
    data, scratch = construct_data(frame), _scratch(results)
    panels, depths = kinds(data), sorted(data["depth"].unique())
    words = layout.Texts(
        title="Further training of a trained network, and of a deeper one made from it with the same function",
        notes=_notes(frame, data),
        experiment=True,
    )
    compared = scratch[scratch["depth"].isin(data.loc[data["made"] == "deep", "made_depth"])]
    figure = layout.page(results, words, (9.8, 2.3 * len(panels)), _key(level=len(compared) > 0))
    grid = figure.subplots(len(panels), len(depths), sharex=True, sharey=True, squeeze=False)
    for row, kind in zip(grid, panels, strict=True):
        for axes, depth in zip(row, depths, strict=True):
            rows = of_kind(data, kind)
            rows = rows[rows["depth"] == depth]
            _lines(axes, rows, style.COLOURS[kind.network])
            deeper = of_kind(compared, kind)
            deeper = deeper[deeper["depth"].isin(rows["made_depth"]) & (deeper["depth"] > depth)]
            for level in deeper["mean"]:
                axes.axhline(level, color=style.GREY, linestyle=":", linewidth=1.2)
        name_row(row, kind, "training error (%)")
    for axes, depth in zip(grid[0], depths, strict=True):
        deep = data.loc[(data["depth"] == depth) & (data["made"] == "deep"), "made_depth"].max()
        axes.set_title(f"{depth} made into {deep}", fontweight="bold")
    for axes in grid[-1]:
        axes.set_xlabel("further steps")
    return figure, data


def _scratch(results: Results) -> pd.DataFrame:
    """SERIES -> the last clean training error (running statistics) over seeds of the runs themselves."""
    curves = measured(results, "curves", "construct")
    clean = curves[(curves["split"] == "train") & (curves["statistics"] == "running")]
    return over_seeds(last_rows(clean[clean["status"] == "finished"]), "error", [])


def _lines(axes: Axes, data: pd.DataFrame, colour: str) -> None:
    for (made, statistics), rows in data.groupby(["made", "statistics"]):
        label = f"{made}, {statistics}"
        look: dict[str, Any] = {"linestyle": MADE[str(made)], "linewidth": STATISTICS[str(statistics)]}
        axes.plot(rows["step"], rows["mean"], color=colour, label=label, **look)
        if statistics == "running":
            style.band(axes, rows, "step", colour)
    axes.yaxis.set_major_formatter(FuncFormatter(style.percent))
    axes.grid(axis="y", color="0.92", linewidth=0.7)


def _key(*, level: bool) -> style.Key:
    """``level``: whether the error of networks of the made depth, trained from scratch, is drawn."""
    lines = [
        Line2D([], [], color="black", linestyle=dashes, linewidth=width, label=f"{made}, {statistics} statistics")
        for made, dashes in MADE.items()
        for statistics, width in STATISTICS.items()
    ]
    dotted = Line2D([], [], color=style.GREY, linestyle=":", linewidth=1.2, label="deep, from scratch")
    return style.Key(handles=[*lines, *([dotted] if level else [])], columns=3)


def _notes(frame: pd.DataFrame, data: pd.DataFrame) -> list[str]:
    rate, difference = float(frame["learning_rate"].max()), float(frame["logit_difference"].max())
    return [
        f"Further training at learning rate {rate:g}, without warm-up or drop, momentum from zero; errors on "
        f"{int(frame['examples'].max()):,} clean training images. At step 0 the logits of deep and shallow differ by "
        f"{difference:.1e} at most in evaluation mode; in training mode an added plain block is not an exact identity.",
        layout.seed_note(data),
    ]
