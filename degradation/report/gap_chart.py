"""The degradation gap of a study -> a figure of it against step, with its interval over seeds."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from degradation.analysis import gap_curve
from degradation.errors import UserError
from degradation.figures import layout, style
from degradation.study.results import Results

PANELS = {"train": "Clean training error (batch statistics)", "train_running": "Running training error (augmented)"}
MARGIN = 0.6  # margin around the means, as a share of their span: early intervals over few seeds are very wide


@style.in_style
def gap(results: Results) -> tuple[Figure, pd.DataFrame]:
    """Draw the error of the deepest minus that of the shallowest network at every step, in percentage points.

    Raises UserError if no kind of network has two depths that finished.
    """
    data = gap_curve(results).dropna(subset="gap").astype(dict.fromkeys(("gap", "low", "high"), float))
    if data.empty:
        raise UserError("figure gap needs finished runs of two depths of one kind of network")
    notes = [
        "Deepest minus shallowest depth, paired by seed: above zero the deeper network has the higher training error.",
        "Line: mean over seeds; band: 95 % interval (Student's t), separate for each step, cut at the axes."
        if data["low"].notna().any()
        else "No interval: one seed, or all seeds equal.",
        *layout.divergence_notes(results, "not drawn"),
    ]
    arms = list(dict.fromkeys(data["arm"]))
    figure = layout.page(results, "Degradation gap against step", notes, (9.0, 0.4 + 2.8 * len(arms)))
    grid = figure.subplots(len(arms), 2, sharey=True, squeeze=False)
    for row, arm in zip(grid, arms, strict=True):
        for axes, (split, title) in zip(row, PANELS.items(), strict=True):
            _panel(axes, data[(data["split"] == split) & (data["arm"] == arm)])
            axes.set_title(style.in_arm(arm, title), fontweight="bold")
        row[0].set_ylabel("gap (percentage points)")
    lowest, highest = float(data["gap"].min()), float(data["gap"].max())
    margin = MARGIN * (highest - lowest or 1.0)
    grid[0][0].set_ylim(min(0.0, lowest) - margin, max(0.0, highest) + margin)
    return figure, data


def _panel(axes: Axes, data: pd.DataFrame) -> None:
    axes.axhline(0, color="0.5", linewidth=0.9, zorder=0)
    for (kind, shallow, deep), rows in data.groupby(["kind", "shallow", "deep"]):
        network, _, shortcut = str(kind).partition(" ")
        colour = style.COLOURS[network]
        dashes = style.DASHES["none" if network == "plain" else shortcut or "A"]
        look = {"linestyle": dashes, "marker": ".", "markersize": 3, "label": f"{kind} {deep} minus {shallow}"}
        axes.plot(rows["step"], rows["gap"], color=colour, **look)
        axes.fill_between(rows["step"], rows["low"], rows["high"], color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel="step", xlim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: style.step_label(step)))
    if len(data):
        axes.legend(loc="upper right", fontsize=7.5)
