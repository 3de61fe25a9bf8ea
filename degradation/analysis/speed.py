"""The curves frame -> how many steps each network takes to reach an error; never reached is censored, not averaged."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pandas as pd

from degradation.analysis import formatting
from degradation.analysis.contrasts import Quantity, by_run, levels
from degradation.analysis.estimates import CENSORED, Estimate
from degradation.analysis.runs import Run, Runs
from degradation.study.results import Results

ERRORS = (0.5, 0.2, 0.1, 0.01)
"""Target errors (fractions); one that no run of the study reaches is omitted."""


def speed(results: Results, runs: Runs) -> Iterator[Estimate]:
    """Steps until the running training error is first at or below each of ``ERRORS``, by the measured rows."""
    curves = results["curves"]
    rows = curves[curves["split"] == "train_running"]
    for error in ERRORS:
        reached = steps_to(rows, error)
        if reached:
            context = {"split": "train_running", "statistics": "batch", "error": f"{error:g}"}
            estimates = levels(runs, Quantity(unit="steps", values=reached, context=context), "steps-to-error")
            for estimate, members in zip(estimates, runs.groups.values(), strict=True):
                yield _censored(estimate, members, error)


def steps_to(rows: pd.DataFrame, error: float) -> dict[str, float]:
    """run_id -> the first measured step at or below the error; without runs that never reach it."""
    return by_run(rows[rows["error"] <= error].groupby("run_id")["step"].min())


def _censored(estimate: Estimate, members: Sequence[Run], error: float) -> Estimate:
    """The estimate; if a run never reached the error, one without a mean: ``> 700 steps``."""
    label = f"{estimate.label} to {100 * error:g} % running training error"
    context = estimate.context | {"censored": str(len(members) - estimate.n)}
    estimate = replace(estimate, label=label, context=context)
    never = [run for run in members if run.seed not in estimate.seeds]
    if not never:
        return estimate
    note = f"> {max(run.steps for run in never):,} steps in {len(never)} of {formatting.seeds(len(members))}"
    if diverged := sum(not run.finished for run in never):
        note += f", {diverged} of which diverged"
    if estimate.values:
        note += f"; the others: {', '.join(f'{step:,.0f}' for step in estimate.values)}"
    return replace(estimate, value=None, low=None, high=None, n=len(members), method=CENSORED, note=note)
