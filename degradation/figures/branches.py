"""The branches frame -> ratio of branch to shortcut by block at three steps, one line a residual network."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from degradation.figures import layout, style
from degradation.figures.gradient_flow import grid_by_step
from degradation.figures.tidy import SERIES, at_steps_between, kinds, of_kind, over_seeds, prefer, series, study_frame
from degradation.study.results import Results

STEPS = 3


@style.in_style
def branches(results: Results) -> tuple[Figure, pd.DataFrame]:
    """Draw each block's branch against the shortcut it is added to, at the first, a middle and the last step.

    The data: SERIES, step, block, stage -> mean, low, high over seeds of branch std / shortcut std. Raises UserError
    if the study has no residual network or did not record the probe ``branches``.
    """
    frame = study_frame(results, "branches")
    residual = prefer(frame[frame["network"] == "residual"], "batch")
    data = over_seeds(at_steps_between(residual, STEPS), "ratio", ["column", "step", "block", "stage"])
    panels = kinds(data)
    figure = layout.page(
        results,
        "Branch against shortcut, block by block: ratio of their standard deviations",
        _notes(results, data),
        (9.6, (3.1 if len(panels) < 2 else 2.2) * len(panels)),
        style.network_key(data, results.study.depths),
    )
    grid = grid_by_step(figure, data, "block", "branch std / shortcut std", results)
    for row, kind in zip(grid, panels, strict=True):
        part = of_kind(data, kind)
        for column, axes in enumerate(row):
            _mark_stages(axes, part[part["column"] == column], results)
    return figure, data.drop(columns="column")


def _mark_stages(axes: Axes, data: pd.DataFrame, results: Results) -> None:
    """A ring at the first block of each later stage, and a line where branch and shortcut are equal."""
    axes.axhline(1, color="0.6", linewidth=0.9, zorder=0)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda ratio, _: f"{ratio:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    later = data[data["stage"] > data["stage"].min()]
    firsts = later[later["block"] == later.groupby([*SERIES, "stage"], observed=True)["block"].transform("min")]
    for key, rows in series(firsts):
        colour = style.shade(key.network, key.depth, results.study.depths)
        look: dict[str, Any] = {"markersize": 4.5, "markerfacecolor": "white", "label": "stages"}
        axes.plot(rows["block"], rows["mean"], "o", color=colour, **look)


def _notes(results: Results, data: pd.DataFrame) -> list[str]:
    arms = results.study.each_arm.values()
    normless = any(arm.norm == "none" for arm in arms)
    changed = any(arm.block.of_shortcut for arm in arms)
    return [
        "Standard deviation of the branch F(x) over that of the shortcut it is added to, on the training "
        "batch; grey line: equal. Rings: the first block of a stage.",
        *(["Without batch norm the branch includes its fixed factor, as in the addition."] if normless else []),
        *(["Branch and shortcut are those of the addition, after any transform of either."] if changed else []),
        layout.seed_note(data),
        *layout.divergence_notes(results, "dotted, at the steps before it"),
    ]
