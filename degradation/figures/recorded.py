"""The frames of one recorded network -> gradient norms and response deviations by layer, at up to four steps."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from degradation.errors import UseError
from degradation.figures import style

STEPS = 4
TICKS = 40  # layers that are named below the panels; of more, some
NAMED = 3  # layers without a response; of more, the number
WIDE = 10  # a panel whose values differ by more than this factor has a logarithmic axis
PANELS = {
    "gradients": ("weight_grad_norm", "gradient norm of the weight"),
    "responses": ("std", "std of the response"),
}


@style.in_style
def recorded(frames: Mapping[str, pd.DataFrame], title: str = "", *, steps: bool = True) -> tuple[Figure, pd.DataFrame]:
    """One panel a frame, layers from the input to the output, one line a step (and kind of batch statistics).

    Without ``steps`` the legend names none: weights that were read from a file are of one step, or of none that is
    known. Layers without a response are named below the panels.
    Returns the figure and its data. Raises UseError where nothing was recorded.
    """
    shown = {name: frames[name] for name in PANELS if name in frames and len(frames[name])}
    if not shown:
        raise UseError("there is nothing to draw: no step was recorded")
    figure = Figure(figsize=(8.5, 2.6 * len(shown) + 1.3), layout="constrained")
    grid = figure.subplots(len(shown), 1, squeeze=False, sharex=True)[:, 0]
    parts = [_panel(axes, name, frame, steps) for axes, (name, frame) in zip(grid, shown.items(), strict=True)]
    data = pd.concat(parts, ignore_index=True)
    layers = data.drop_duplicates("layer").sort_values("layer")
    every = -(-len(layers) // TICKS)
    grid[-1].set_xticks(layers["layer"][::every], layers["name"][::every], rotation=90, fontsize=6.5)
    grid[-1].set_xlabel("layer, in forward order" + _without_response(shown))
    if title:
        grid[0].set_title(title, loc="left", fontweight="bold")
    return figure, data


def _without_response(shown: Mapping[str, pd.DataFrame]) -> str:
    """``; without a response: fc``, which is why a line ends early; empty where each layer has one."""
    if len(shown) < len(PANELS):
        return ""
    silent = sorted(set(shown["gradients"]["name"]) - set(shown["responses"]["name"]))
    names = ", ".join(silent) if len(silent) <= NAMED else f"{len(silent)} layers"
    return f"; without a response: {names}" if silent else ""


def _panel(axes: Axes, name: str, frame: pd.DataFrame, with_steps: bool) -> pd.DataFrame:
    """Draw the lines of one frame; returns them: frame, step, statistics, layer, name, value."""
    column, words = PANELS[name]
    steps = sorted(frame["step"].unique())
    chosen = {steps[round(place)] for place in np.linspace(0, len(steps) - 1, min(STEPS, len(steps)))}
    part = frame[frame["step"].isin(chosen)]
    kinds = part["statistics"] if "statistics" in part else pd.Series("", index=part.index)
    data = pd.DataFrame(
        {
            "frame": name,
            "step": part["step"],
            "statistics": kinds,
            "layer": part["layer"],
            "name": part["name"],
            "value": part[column],
        }
    )
    groups = list(data.groupby(["step", "statistics"], sort=True))
    shades = style.colour_map("viridis_r", style.GREY)(np.linspace(0.15, 0.95, len(groups)))
    several = kinds.nunique() > 1
    for shade, (key, rows) in zip(shades, groups, strict=True):
        step, kind = rows["step"].iloc[0], key[1]
        said = [f"step {style.step_label(step)}"] * with_steps + [f"{kind} statistics"] * several
        axes.plot(rows["layer"], rows["value"], color=shade, label=", ".join(said), marker="o", markersize=3)
    positive = data["value"][(data["value"] > 0) & np.isfinite(data["value"])]
    if len(positive) and positive.max() > WIDE * positive.min():
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_ylabel(words)
    axes.grid(axis="y", color="0.92", linewidth=0.7)
    if with_steps or several:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return data
