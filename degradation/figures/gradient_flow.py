"""The gradients frame -> gradient norm of each layer's weight at four steps, plain above residual."""

import pandas as pd
from matplotlib.figure import Figure

from degradation.figures import layout, style
from degradation.figures.tidy import at_steps_between, kinds, of_kind, over_seeds, study_frame
from degradation.study.results import Results

STEPS = 4
MEANING = (
    "L2 norm of the mean loss's gradient in the layer's whole weight, before weight decay; the last layer is "
    "the linear one."
)


@style.in_style
def gradient_flow(results: Results) -> tuple[Figure, pd.DataFrame]:
    """Draw gradient norms by layer: a row each network, a column each step, one line a depth, log y axis.

    The data: SERIES, step, layer -> mean, low, high over seeds of the weight's gradient norm. Raises UserError if the
    study did not record the probe ``gradients``.
    """
    rows = at_steps_between(study_frame(results, "gradients", "gradient-flow"), STEPS)
    data = over_seeds(rows, "weight_grad_norm", ["column", "step", "layer"])
    panels = kinds(data)
    figure = layout.page(
        results,
        "Gradient norm of each layer's weight at four steps",
        [MEANING, layout.seed_note(data), *layout.divergence_notes(results, "dotted, at the steps before it")],
        (9.6, (2.3 if len(panels) < 3 else 1.8) * len(panels)),
        style.network_key(data, results.study.depths),
    )
    grid_by_step(figure, data, "layer", "gradient norm", results)
    return figure, data.drop(columns="column")


def grid_by_step(figure: Figure, data: pd.DataFrame, x: str, y: str, results: Results) -> layout.Grid:
    """Draw a row of panels each network, a column each step, one line a depth over a logarithmic y axis.

    The step is written above each column, again if the next arm has other steps.
    """
    panels = kinds(data)
    grid = figure.subplots(len(panels), data["column"].nunique(), sharex=True, sharey=True, squeeze=False)
    steps_above: list[int] = []
    for row, kind in zip(grid, panels, strict=True):
        part = of_kind(data, kind)
        for column, axes in enumerate(row):
            axes.set_yscale("log")
            style.draw_lines(axes, part[part["column"] == column], x, results.study.depths)
        steps = sorted(data.loc[data["arm"] == kind.arm, "step"].unique())
        for axes, step in zip(row, steps if steps != steps_above else [], strict=False):
            axes.set_title(f"step {style.step_label(step)}", fontweight="bold")
        steps_above = steps
    layout.name_rows(grid, panels, y)
    for axes in grid[-1]:
        axes.set_xlabel(x)
    return grid
