"""The branches frame -> ratio of branch to shortcut by block at three steps, one line a residual network."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from degradation.figures import layout, style
from degradation.figures.gradient_flow import by_layer, name_columns, name_row
from degradation.figures.tidy import SERIES, at_steps_between, kinds, measured, of_kind, over_seeds, prefer, series
from degradation.study.results import Results

STEPS = 3


def branches_data(frame: pd.DataFrame) -> pd.DataFrame:
    """SERIES, step, block, stage -> mean, low, high over seeds of branch std / shortcut std."""
    residual = prefer(frame[frame["network"] == "residual"], "batch")
    return over_seeds(at_steps_between(residual, STEPS), "ratio", ["column", "step", "block", "stage"])


@style.in_style
def branches(results: Results) -> tuple[Figure, pd.DataFrame]:
    """Each block's branch against the shortcut it is added to, at the first, a middle and the last step.

    Raises UserError if the study has no residual network or did not record the probe ``branches``.
    """
    data = branches_data(measured(results, "branches", "branches"))
    panels = kinds(data)
    words = layout.Texts(
        title="Branch against shortcut, block by block: ratio of their standard deviations",
        notes=_notes(results, data),
    )
    figure = layout.page(
        results,
        words,
        (9.6, (3.1 if len(panels) < 2 else 2.2) * len(panels)),
        style.network_key(data, results.study.depths, mixed=False),
    )
    grid = figure.subplots(len(panels), data["column"].nunique(), sharex=True, sharey=True, squeeze=False)
    for row, kind in zip(grid, panels, strict=True):
        part = of_kind(data, kind)
        for column, axes in enumerate(row):
            by_layer(axes, part[part["column"] == column], "block", results)
            _mark_stages(axes, part[part["column"] == column], results)
        name_row(row, kind, "branch std / shortcut std")
    name_columns(grid, data, "block")
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
        axes.plot(
            rows["block"],
            rows["mean"],
            "o",
            markersize=4.5,
            markerfacecolor="white",
            color=colour,
            label="stages",
        )


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
