"""The construct frame -> the gain of a deep network made from a shallow one, and its drift in further training."""

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from degradation.analysis.contrasts import Quantity, levels, measured_estimates
from degradation.analysis.errors import final
from degradation.analysis.estimates import Estimate
from degradation.analysis.runs import Run, Runs
from degradation.study.results import Results

STATISTICS = "running"
"""Statistics with which the made network has the shallow one's function: batch statistics change a plain block."""


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
    start = changes(frame, STATISTICS)["first"]
    own = final(results["curves"], runs, "train", STATISTICS).values
    made = {str(run): own[run] + float(start[run]) for run in start.index if run in own}
    gains = {run: own[twin] - made[run] for run, twin in _deeper(runs, added).items() if run in made and twin in own}
    context = {"statistics": STATISTICS, "at": "made"}
    yield from _named(runs, Quantity(unit="points", values=gains, context=context), "construct-gain", added)
    for statistics in ("running", "batch"):
        last = changes(frame, statistics)["last"]
        context = {"statistics": statistics, "further_steps": f"{int(frame['step'].max()):,}"}
        drift = Quantity(unit="points", values={str(run): float(value) for run, value in last.items()}, context=context)
        yield from _named(runs, drift, "construct-drift", added)


def changes(frame: pd.DataFrame, statistics: str) -> pd.DataFrame:
    """run_id -> first, last: error of the made network minus that of the shallow one, before and after the steps."""
    rows = frame[frame["statistics"] == statistics]
    errors = rows.pivot_table(index=["run_id", "step"], columns="made", values="error")
    return (errors["deep"] - errors["shallow"]).groupby("run_id").agg(["first", "last"])


def _deeper(runs: Runs, added: int) -> dict[str, str]:
    """Each run -> the run with ``added`` more layers and otherwise equal fields."""
    trained = {_place(run, run.depth): run.run_id for run in runs.every}
    found = {run.run_id: trained.get(_place(run, run.depth + added)) for run in runs.every}
    return {run: twin for run, twin in found.items() if twin}


def _place(run: Run, depth: int) -> tuple[str, str, int, int]:
    return run.arm, run.kind, run.seed, depth


def _named(runs: Runs, quantity: Quantity, name: str, added: int) -> Iterator[Estimate]:
    """Each network's mean over seeds, under the names of both depths."""
    for found in measured_estimates(levels(runs, quantity, name)):
        shallow = int(found.context["depth"])
        depths = {"shallow": str(shallow), "deep": str(shallow + added)}
        yield replace(found, label=f"{found.label} made into {shallow + added}", context=found.context | depths)
