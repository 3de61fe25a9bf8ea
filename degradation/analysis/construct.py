"""The construct frame -> the gain of a deep network made from a shallow one, and its drift in further training."""

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from degradation.analysis.contrasts import Quantity, by_run, levels, measured_estimates
from degradation.analysis.errors import final
from degradation.analysis.estimates import Estimate
from degradation.analysis.runs import Runs
from degradation.study.results import Results

STATISTICS = "running"
"""With these statistics the made network has the shallow one's function: batch statistics change a plain block."""


def construct(results: Results, runs: Runs) -> Iterator[Estimate]:
    """``construct-gain`` and, by batch-norm statistics, ``construct-drift`` of each network (points).

    Gain: the clean training error of the deep network that was trained from scratch, minus that of the made one of its
    depth and seed before any further step, if the study has trained that depth. Drift: training error of the made
    network minus that of the shallow one, after both were trained on by the same steps.
    """
    frame = results["construct"]
    if frame.empty:
        return
    added = int((frame["made_depth"] - frame["depth"]).max())
    errors = final(results["curves"], runs, "train", STATISTICS).values
    added_errors = by_run(changes(frame, STATISTICS)["first"])
    made = {run: errors[run] + change for run, change in added_errors.items() if run in errors}
    run_at = {(run.arm, run.kind, run.seed, run.depth): run.run_id for run in runs.every}
    deeper = {run.run_id: run_at.get((run.arm, run.kind, run.seed, run.depth + added), "") for run in runs.every}
    gains = {run: errors[twin] - made[run] for run, twin in deeper.items() if run in made and twin in errors}
    context = {"statistics": STATISTICS, "at": "made"}
    yield from _named(runs, Quantity(unit="points", values=gains, context=context), "construct-gain", added)
    for statistics in ("running", "batch"):
        context = {"statistics": statistics, "further_steps": f"{int(frame['step'].max()):,}"}
        drift = Quantity(unit="points", values=by_run(changes(frame, statistics)["last"]), context=context)
        yield from _named(runs, drift, "construct-drift", added)


def changes(frame: pd.DataFrame, statistics: str) -> pd.DataFrame:
    """run_id -> first, last: error of the made network minus that of the shallow one, before and after the steps."""
    rows = frame[frame["statistics"] == statistics]
    errors = rows.pivot_table(index=["run_id", "step"], columns="made", values="error")
    return (errors["deep"] - errors["shallow"]).groupby("run_id").agg(["first", "last"])


def _named(runs: Runs, quantity: Quantity, name: str, added: int) -> Iterator[Estimate]:
    """Each network's mean over seeds, with both depths in its label and context."""
    for level in measured_estimates(levels(runs, quantity, name)):
        shallow = int(level.context["depth"])
        depths = {"shallow": str(shallow), "deep": str(shallow + added)}
        yield replace(level, label=f"{level.label} made into {shallow + added}", context=level.context | depths)
