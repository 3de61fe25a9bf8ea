"""The gradients frame -> gradient norm of each layer's weight at four steps, plain above residual."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from degradation.figures import layout, style
from degradation.figures.tidy import Kind, at_steps_between, kinds, measured, of_kind, over_seeds, series
from degradation.study.results import Results

STEPS = 4
MEANING = (
    "L2 norm of the mean loss's gradient in the layer's whole weight, before weight decay; the last layer is "
    "the linear one."
)


def gradient_flow_data(frame: pd.DataFrame) -> pd.DataFrame:
    """SERIES, step, layer -> mean, low, high over seeds of the weight's gradient norm, at four steps."""
    return over_seeds(at_steps_between(frame, STEPS), "weight_grad_norm", ["column", "step", "layer"])


@style.in_style
def gradient_flow(results: Results) -> tuple[Figure, pd.DataFrame]:
    """Gradient norms by layer: a row each network, a column each step, one line a depth, log y axis.

    Raises UserError if the study did not record the probe ``gradients``.
    """
    data = gradient_flow_data(measured(results, "gradients", "gradient-flow"))
    panels = kinds(data)
    notes = [MEANING, layout.seed_note(data), *layout.divergence_notes(results, "dotted, at the steps before it")]
    words = layout.Texts(title="Gradient norm of each layer's weight at four steps", notes=notes)
    figure = layout.page(
        results,
        words,
        (9.6, (2.3 if len(panels) < 3 else 1.8) * len(panels)),
        style.network_key(data, results.study.depths, mixed=False),
    )
    grid = figure.subplots(len(panels), data["column"].nunique(), sharex=True, sharey=True, squeeze=False)
    for row, kind in zip(grid, panels, strict=True):
        for column, axes in enumerate(row):
            part = of_kind(data, kind)
            by_layer(axes, part[part["column"] == column], "layer", results)
        name_row(row, kind, "gradient norm")
    name_columns(grid, data, "layer")
    return figure, data.drop(columns="column")


def name_row(row: np.ndarray[Any, Any], kind: Kind, quantity: str) -> None:
    """The network and the quantity next to the first panel, in the network's colour."""
    network = style.in_arm(kind.arm, style.kind_name(kind._replace(arm="")), mark="\n")
    row[0].set_ylabel(f"{network}\n{quantity}", color=style.COLOURS[kind.network])


def name_columns(grid: np.ndarray[Any, Any], data: pd.DataFrame, x: str) -> None:
    """The step above each column, again if the next arm has another one; the x label below."""
    above: list[int] = []
    for row, kind in zip(grid, kinds(data), strict=True):
        steps = sorted(data.loc[data["arm"] == kind.arm, "step"].unique())
        for axes, step in zip(row, steps if steps != above else [], strict=False):
            axes.set_title(f"step {style.step_label(step)}", fontweight="bold")
        above = steps
    for axes in grid[-1]:
        axes.set_xlabel(x)


def by_layer(axes: Axes, data: pd.DataFrame, x: str, results: Results) -> None:
    """One line a network over a logarithmic y axis, with its band."""
    axes.set_yscale("log")
    for key, rows in series(data):
        look = style.line_style(key, results.study.depths, mixed=False)
        axes.plot(rows[x], rows["mean"], label=style.network_name(key), **look)
        style.band(axes, rows, x, look["color"])
    axes.grid(axis="y", color="0.92", linewidth=0.7)
