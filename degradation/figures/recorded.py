"""The frames of one recorded network -> gradient norms, response deviations and zeros by layer, at up to four steps."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from degradation.errors import UserError
from degradation.figures import style

STEPS = 4
TICKS = 160  # most layers named below the panels
NAMED = 3  # most layers named as without a response
EDGE = 0.06  # margin above and below the lines, as a share of the panel: markers are not cut
WIDE = 10  # a panel whose values differ by more than this factor has a logarithmic axis
PANELS = {
    ("gradients", "weight_grad_norm"): "gradient norm of the weight",
    ("responses", "std"): "std of the response",
    ("responses", "zero_fraction"): "share of the response\nat most zero",
}


@style.in_style
def recorded(frames: Mapping[str, pd.DataFrame], title: str = "", *, steps: bool = True) -> tuple[Figure, pd.DataFrame]:
    """Draw one panel per measure, layers from input to output, one line per step (and kind of batch statistics).

    Without ``steps`` the legend names none: weights read from a file are of one step, or of an unknown one.
    Steps without a finite number have no line and are named; layers without a response are named below the panels.
    Returns the figure and its data. Raises UserError if nothing was recorded.
    """
    shown = [key for key in PANELS if key[0] in frames and len(frames[key[0]])]
    if not shown:
        raise UserError("nothing to draw: no step was recorded")
    layers = frames[shown[0][0]].drop_duplicates("layer").sort_values("layer")
    wide = float(np.clip(0.13 * len(layers), 8.5, 22))  # as many names as fit below it
    figure = Figure(figsize=(wide, 2.3 * len(shown) + 1.3), layout="constrained")
    grid = figure.subplots(len(shown), 1, squeeze=False, sharex=True)[:, 0]
    parts = [_panel(axes, key, frames[key[0]], steps) for axes, key in zip(grid, shown, strict=True)]
    every = -(-len(layers) // TICKS)
    # Names of layers and files are not formulas, even with dollar signs.
    names = layers["name"][::every]
    grid[-1].set_xticks(layers["layer"][::every], names, rotation=90, fontsize=6.5, parse_math=False)
    grid[-1].set_xlabel("layer, in forward order" + _without_response(frames), parse_math=False)
    if title:
        grid[0].set_title(title, loc="left", fontweight="bold", parse_math=False)
    return figure, pd.concat(parts, ignore_index=True)


def _without_response(frames: Mapping[str, pd.DataFrame]) -> str:
    """``; without a response: fc``, the reason why a line ends early; empty if each layer has one."""
    if any(name not in frames or frames[name].empty for name in ("gradients", "responses")):
        return ""
    silent = sorted(set(frames["gradients"]["name"]) - set(frames["responses"]["name"]))
    names = ", ".join(silent) if len(silent) <= NAMED else f"{len(silent)} layers"
    return f"; without a response: {names}" if silent else ""


def _panel(axes: Axes, key: tuple[str, str], frame: pd.DataFrame, with_steps: bool) -> pd.DataFrame:
    """Draw the lines of one measure; returns them: frame, column, step, statistics, layer, name, value."""
    data = _lines(key, frame)
    several = data["statistics"].nunique() > 1
    groups = [rows for _, rows in data.groupby(["step", "statistics"], sort=True)]
    shades = style.colour_map("viridis_r", style.GREY)(np.linspace(0.15, 0.95, len(groups)))
    not_finite = []
    for shade, rows in zip(shades, groups, strict=True):
        step, kind = style.step_label(rows["step"].iloc[0]), rows["statistics"].iloc[0]
        if not np.isfinite(rows["value"]).any():
            not_finite.append(step)
            continue
        labels = [f"step {step}"] * with_steps + [f"{kind} statistics"] * several
        axes.plot(rows["layer"], rows["value"], color=shade, label=", ".join(labels), marker="o", markersize=3)
    axes.margins(y=EDGE)
    _scale(axes, key[1], data["value"])
    axes.set_ylabel(PANELS[key])
    style.draw_grid(axes)
    missing = "no finite number:\nstep "
    if len(not_finite) == len(groups):
        axes.text(0.5, 0.5, missing + ", ".join(not_finite), ha="center", va="center", transform=axes.transAxes)
    elif with_steps or several:
        title = missing + "\nstep ".join(not_finite) if not_finite else None
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), title=title, title_fontsize=7)
    return data


def _lines(key: tuple[str, str], frame: pd.DataFrame) -> pd.DataFrame:
    """The values of the drawn steps; with the kind of statistics if a layer has several in a step."""
    name, column = key
    part = frame[frame["step"].isin(_chosen(frame["step"]))]
    kinds = part["statistics"] if part.duplicated(["step", "layer"]).any() else ""
    data = part[["step", "layer", "name"]].assign(frame=name, column=column, statistics=kinds, value=part[column])
    return data[["frame", "column", "step", "statistics", "layer", "name", "value"]]


def _chosen(steps: pd.Series) -> set[int]:
    """Up to ``STEPS`` of the steps, spread evenly, the first and the last among them."""
    every = sorted(steps.unique())
    return {every[round(place)] for place in np.linspace(0, len(every) - 1, min(STEPS, len(every)))}


def _scale(axes: Axes, column: str, values: pd.Series) -> None:
    """Scale the y axis: 0 to 1 for a share; logarithmic if the values differ much (zeros are counted); else from 0."""
    positive = values[(values > 0) & np.isfinite(values)]
    if column == "zero_fraction":
        axes.set_ylim(-EDGE, 1 + EDGE)
    elif len(positive) and positive.max() > WIDE * positive.min():
        axes.set_yscale("log", nonpositive="mask")
        if zeros := int((values == 0).sum()):
            axes.text(1, 1, f"{zeros} zeros not drawn", transform=axes.transAxes, ha="right", va="bottom", fontsize=7)
    else:
        axes.set_ylim(bottom=0)
