"""The estimates of a study -> the figure next to its answer: the gap of the deepest network, with intervals."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from degradation.analysis import Estimate
from degradation.errors import UserError
from degradation.figures import style

GAP = "degradation-gap"
WIDTH, ROW = 4.7, 0.3  # inches: the width of a phone; a row for each network and arm
AROUND = 0.95  # inches of title and axis
NAME = "{kind}, {shallow} to {deep}"
COLUMNS = ["arm", "network", "kind", "shallow", "deep", "gap", "low", "high", "seeds"]


@style.in_style
def effects(estimates: Sequence[Estimate], arms: Sequence[str] = ()) -> tuple[Figure, pd.DataFrame]:
    """Draw a point with its 95 % interval for each arm and kind of network; ``arms`` in the study's order.

    Deepest minus shallowest depth of each kind, in percentage points of final clean training error. Raises UserError
    if no kind of network has two depths that finished.
    """
    shown = widest(estimates, arms)
    if not shown:
        raise UserError("figure answer needs finished runs of two depths of one kind of network")
    figure = Figure(figsize=(WIDTH, AROUND + ROW * len(shown)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color="0.5", linewidth=0.9, zorder=0)
    _points(axes, shown)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.grid(axis="x", color="0.9")
    # Title of the figure, not of the axes: long names of arms make the axes too narrow for it.
    figure.supxlabel("training error, deepest minus shallowest (points)", fontsize=9)
    figure.suptitle("How far the deepest network is behind", fontsize=9.5, fontweight="bold", x=0.01, ha="left")
    rows = [each.context | {"gap": each.value, "low": each.low, "high": each.high, "seeds": each.n} for each in shown]
    return figure, pd.DataFrame(rows, columns=COLUMNS)


def _points(axes: Axes, shown: Sequence[Estimate]) -> None:
    for place, each in enumerate(shown):
        colour = style.COLOURS[each.context["network"]]
        if each.low is not None and each.high is not None:
            axes.plot([each.low, each.high], [place, place], color=colour, linewidth=2.2, solid_capstyle="butt")
        if each.value is not None:
            axes.plot([each.value], [place], color=colour, marker="o", markersize=5.5)
    names = [style.in_arm(each.context["arm"], NAME.format_map(each.context)) for each in shown]
    axes.set_yticks(range(len(shown)), names, parse_math=False)
    for label, each in zip(axes.get_yticklabels(), shown, strict=True):
        label.set_color(style.COLOURS[each.context["network"]])


def widest(estimates: Sequence[Estimate], arms: Sequence[str]) -> list[Estimate]:
    """The gap between the deepest and shallowest network of each arm and kind, in the order of ``arms``."""
    gaps = [each for each in estimates if each.name == GAP and each.value is not None]
    by_row: dict[tuple[int, str, str], Estimate] = {}
    for gap in sorted(gaps, key=lambda gap: (-int(gap.context["deep"]), int(gap.context["shallow"]))):
        arm = gap.context["arm"]
        by_row.setdefault((arms.index(arm) if arm in arms else len(arms), arm, gap.context["kind"]), gap)
    return [by_row[key] for key in sorted(by_row)]
