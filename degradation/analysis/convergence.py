"""The curves frame -> which runs have converged, and what the others lack."""

import math

import pandas as pd

from degradation.spec import RunSpec
from degradation.study.results import Results

SHARE = 0.02
"""Of the loss of guessing, ln(classes): by how much the training loss may move. Fixed before a study of 800 steps or
more had been looked at; that every run of ``cifar10-short`` and ``warmup-8px`` (700 steps) moves less than it over its
last quarter was known, and is why the last quarter alone does not decide."""
RULE = (
    "A run has converged if its schedule ended, the full learning rate was reached within the first quarter of the "
    "steps, and between the two halves of the second quarter (the last at the full rate) and of the last quarter (at "
    f"the lowest rate) its mean running training loss changed by less than {100 * SHARE:g} % of the loss of guessing."
)
QUARTERS = {"second": (0.25, 0.5), "last": (0.75, 1.0)}


def lacking(results: Results) -> dict[str, str]:
    """run_id -> what is missing for convergence by ``RULE``; empty if the run has converged.

    The last quarter is not enough: at a hundredth of the learning rate the loss of any network stops changing,
    however short the schedule was. Loss: ``train_running``, cross entropy in nats, weighted by the steps of each row.
    """
    curves = results["curves"]
    running = curves[curves["split"] == "train_running"].sort_values("step")
    rows = dict(iter(running.groupby("run_id", observed=True)))
    return {
        run_id: lacks(spec, results.status[run_id], rows.get(run_id, running.iloc[:0]))
        for run_id, spec in results.specs.items()
    }


def lacks(spec: RunSpec, status: str, rows: pd.DataFrame) -> str:
    """What one run lacks; ``rows``: its rows of ``train_running``, by step."""
    recipe = spec.recipe
    if status != "finished":
        return "it diverged"
    if 4 * recipe.warmup_steps > recipe.steps:
        return f"its warm-up takes {recipe.warmup_steps:,} of {recipe.steps:,} steps, more than a quarter"
    for name, (start, end) in QUARTERS.items():
        moved = _moved(rows, start * recipe.steps, end * recipe.steps) / math.log(spec.dataset.classes)
        if math.isnan(moved):
            return f"too few rows of the {name} quarter of its steps"
        if abs(moved) >= SHARE:
            change = f"its loss changed by {100 * abs(moved):.1f} % of that of guessing"
            return f"{change} in the {name} quarter of the steps"
    return ""


def _moved(rows: pd.DataFrame, start: float, end: float) -> float:
    """Mean loss over the first half of these steps minus that over the second; NaN if a half has no row."""
    middle = (start + end) / 2
    first, second = (_mean(rows, *half) for half in ((start, middle), (middle, end)))
    return first - second


def _mean(rows: pd.DataFrame, start: float, end: float) -> float:
    within = (rows["step"] > start) & (rows["step"] <= end)
    steps = rows["step"].diff().fillna(rows["step"])[within]  # a row is the mean of the steps since the row before
    return float((rows["loss"][within] * steps).sum() / steps.sum()) if len(steps) else math.nan
