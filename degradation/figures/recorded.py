"""The frames of one recorded network -> gradient norms, response deviations and zeros by layer, at up to four steps."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from degradation.errors import UseError
from degradation.figures import style

STEPS = 4
TICKS = 160  # layers that are named below the panels; of more, some
EDGE = 0.06  # room above and below the lines, as a share of the panel: markers are not cut
WIDE = 10  # a panel whose values differ by more than this factor has a logarithmic axis
PANELS = {
    ("gradients", "weight_grad_norm"): "gradient norm of the weight",
    ("responses", "std"): "std of the response",
    ("responses", "zero_fraction"): "share of the response\nat most zero",
}


@style.in_style
def recorded(frames: Mapping[str, pd.DataFrame], title: str = "") -> tuple[Figure, pd.DataFrame]:
    """A panel a measure, layers from the input to the output, one line a step.

    Steps without a finite number have no line and are named. Returns the figure and its data. Raises UseError where
    nothing was recorded.
    """
    shown = [key for key in PANELS if key[0] in frames and len(frames[key[0]])]
    if not shown:
        raise UseError("there is nothing to draw: no step was recorded")
    layers = frames[shown[0][0]].drop_duplicates("layer").sort_values("layer")
    wide = float(np.clip(0.13 * len(layers), 8.5, 22))  # as many names as fit below it
    figure = Figure(figsize=(wide, 2.3 * len(shown) + 1.3), layout="constrained")
    grid = figure.subplots(len(shown), 1, squeeze=False, sharex=True)[:, 0]
    parts = [_panel(axes, key, frames[key[0]]) for axes, key in zip(grid, shown, strict=True)]
    every = -(-len(layers) // TICKS)
    grid[-1].set_xticks(layers["layer"][::every], layers["name"][::every], rotation=90, fontsize=6.5)
    grid[-1].set_xlabel("layer, in forward order")
    if title:
        grid[0].set_title(title, loc="left", fontweight="bold")
    return figure, pd.concat(parts, ignore_index=True)


def _panel(axes: Axes, key: tuple[str, str], frame: pd.DataFrame) -> pd.DataFrame:
    """Draw the lines of one measure; returns them: frame, column, step, layer, name, value."""
    name, column = key
    part = frame[frame["step"].isin(_chosen(frame["step"]))]
    data = part[["step", "layer", "name"]].assign(frame=name, column=column, value=part[column])
    data = data[["frame", "column", "step", "layer", "name", "value"]]
    finite = data.groupby("step")["value"].agg(lambda values: np.isfinite(values).any())
    shades = style.colour_map("viridis_r", style.GREY)(np.linspace(0.15, 0.95, len(finite)))
    for shade, step in zip(shades, finite.index.tolist(), strict=True):
        if finite[step]:
            rows = data[data["step"] == step]
            label = f"step {style.step_label(step)}"
            axes.plot(rows["layer"], rows["value"], color=shade, label=label, marker="o", markersize=3)
    axes.margins(y=EDGE)
    _scale(axes, column, data["value"])
    axes.set_ylabel(PANELS[key])
    axes.grid(axis="y", color="0.92", linewidth=0.7)
    lost = [style.step_label(step) for step in finite.index[~finite]]
    if finite.any():
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), title=_unseen(lost, 1) or None, title_fontsize=7)
    else:
        axes.text(0.5, 0.5, _unseen(lost, len(lost)), ha="center", va="center", transform=axes.transAxes)
    return data


def _chosen(steps: pd.Series) -> set[int]:
    """Up to ``STEPS`` of the steps, spread evenly, the first and the last among them."""
    every = sorted(steps.unique())
    return {every[round(place)] for place in np.linspace(0, len(every) - 1, min(STEPS, len(every)))}


def _unseen(lost: list[str], to_a_line: int) -> str:
    """That some steps have no line."""
    if not lost:
        return ""
    return "no finite number:\nstep " + ("\nstep " if to_a_line == 1 else ", ").join(lost)


def _scale(axes: Axes, column: str, values: pd.Series) -> None:
    """From 0 to 1 for a share; logarithmic where the values differ much, and then zeros are counted; else from 0."""
    positive = values[(values > 0) & np.isfinite(values)]
    if column == "zero_fraction":
        axes.set_ylim(-EDGE, 1 + EDGE)
    elif len(positive) and positive.max() > WIDE * positive.min():
        axes.set_yscale("log", nonpositive="mask")
        if zeros := int((values == 0).sum()):
            said = f"{zeros} zeros not drawn"
            axes.text(1, 1, said, transform=axes.transAxes, ha="right", va="bottom", fontsize=7)
    else:
        axes.set_ylim(bottom=0)
