"""The construct frame -> training error of a network and of the deeper one made from it, in further training."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from degradation.figures import layout, style
from degradation.figures.tidy import kinds, last_rows, of_kind, over_seeds, study_frame
from degradation.study.results import Results

MADE: dict[str, Any] = {"shallow": "--", "deep": "-"}
STATISTICS = {"running": 1.6, "batch": 0.8}
"""Batch-norm statistics -> width of the line."""
FROM_SCRATCH: dict[str, Any] = {"color": style.GREY, "linestyle": ":", "linewidth": 1.2}


@style.in_style
def construct(results: Results) -> tuple[Figure, pd.DataFrame]:
    """Draw a row each kind of network, a column each depth that was deepened.

    If the study has trained the deeper depth from scratch, its last training error is a dotted level. The data:
    SERIES, made, made_depth, statistics, step -> mean, low and high over seeds of the training error. Raises UserError
    if the experiment ``construct`` was not run.
    """
    frame, scratch = study_frame(results, "construct"), _scratch(results)
    data = over_seeds(frame, "error", ["made", "made_depth", "statistics", "step"])
    panels, depths = kinds(data), sorted(data["depth"].unique())
    made_depths = data[data["made"] == "deep"].groupby("depth")["made_depth"].max()
    figure = layout.page(
        results,
        "Further training of a trained network, and of a deeper one made from it with the same function",
        _notes(frame, data),
        (9.8, 2.3 * len(panels)),
        _key(level=bool(scratch["depth"].isin(made_depths).any())),
        experiment=True,
    )
    grid = figure.subplots(len(panels), len(depths), sharex=True, sharey=True, squeeze=False)
    for row, kind in zip(grid, panels, strict=True):
        rows, levels = of_kind(data, kind), of_kind(scratch, kind)
        for axes, depth in zip(row, depths, strict=True):
            part = rows[rows["depth"] == depth]
            _lines(axes, part, style.COLOURS[kind.network])
            for level in levels.loc[levels["depth"].isin(part.loc[part["made"] == "deep", "made_depth"]), "mean"]:
                axes.axhline(level, **FROM_SCRATCH)
    titles = [f"{depth} made into {made_depths[depth]}" for depth in depths]
    layout.name_panels(grid, panels, "training error (%)", titles, ["further steps"] * len(depths))
    return figure, data


def _scratch(results: Results) -> pd.DataFrame:
    """SERIES -> the last clean training error (running statistics) over seeds of the runs themselves."""
    curves = study_frame(results, "curves", "construct")
    clean = curves[(curves["split"] == "train") & (curves["statistics"] == "running")]
    return over_seeds(last_rows(clean[clean["status"] == "finished"]), "error", [])


def _lines(axes: Axes, data: pd.DataFrame, colour: str) -> None:
    for (made, statistics), rows in data.groupby(["made", "statistics"]):
        look: dict[str, Any] = {"linestyle": MADE[str(made)], "linewidth": STATISTICS[str(statistics)]}
        axes.plot(rows["step"], rows["mean"], color=colour, label=f"{made}, {statistics}", **look)
        if statistics == "running":
            style.band(axes, rows, "step", colour)
    axes.yaxis.set_major_formatter(FuncFormatter(style.percent))
    style.draw_grid(axes)


def _key(*, level: bool) -> style.Key:
    """``level``: whether the error of networks of the made depth, trained from scratch, is drawn."""
    lines = [
        Line2D([], [], color="black", linestyle=dashes, linewidth=width, label=f"{made}, {statistics} statistics")
        for made, dashes in MADE.items()
        for statistics, width in STATISTICS.items()
    ]
    lines += [Line2D([], [], label="deep, from scratch", **FROM_SCRATCH)] if level else []
    return style.Key(handles=lines, columns=3)


def _notes(frame: pd.DataFrame, data: pd.DataFrame) -> list[str]:
    rate, difference = float(frame["learning_rate"].max()), float(frame["logit_difference"].max())
    return [
        f"Further training at learning rate {rate:g}, without warm-up or drop, momentum from zero; errors on "
        f"{int(frame['examples'].max()):,} clean training images. At step 0 the logits of deep and shallow differ by "
        f"{difference:.1e} at most in evaluation mode; in training mode an added plain block is not an exact identity.",
        layout.seed_note(data),
    ]
