"""The curves frame -> final errors, the degradation gap and the shortcut effect, and the gap over the steps."""

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from degradation.analysis.contrasts import (
    Quantity,
    across_arms,
    across_depths,
    across_kinds,
    across_shortcuts,
    gaps_across_arms,
    levels,
)
from degradation.analysis.estimates import Estimate
from degradation.analysis.runs import Runs, runs
from degradation.study.results import Results

CLAIMED = ("train", "batch")
"""Split and statistics of the training error of the claims: clean images; for a deep plain network the running
batch-norm statistics can be useless, so those of each batch are used."""
TESTED = ("test", "running")
MEASURES = (CLAIMED, ("train", "running"), ("train_running", "batch"), TESTED)
CURVE = ["arm", "kind", "shallow", "deep", "split", "statistics", "step", "gap", "low", "high", "seeds"]


def errors(results: Results, among: Runs) -> Iterator[Estimate]:
    """Final errors of each network (percent), then differences between them (points)."""
    curves = results["curves"]
    for split, statistics in MEASURES:
        found = levels(among, final(curves, among, split, statistics, unit="percent"), "final-error")
        yield from map(within_bounds, found)
    if any(run.steps >= results.study.paper_steps for run in among.every):
        yield from map(within_bounds, levels(among, before_drop(curves, among), "error-before-drop"))
    claimed = final(curves, among, *CLAIMED)
    yield from across_depths(among, claimed, "degradation-gap")
    yield from across_kinds(among, claimed, "shortcut-effect")
    yield from across_arms(among, claimed, "arm-effect")
    yield from gaps_across_arms(among, claimed, "arm-gap")
    for split, statistics in (CLAIMED, TESTED):
        yield from across_shortcuts(among, final(curves, among, split, statistics), "shortcut-options")


def within_bounds(error: Estimate) -> Estimate:
    """An error with its interval cut at 0 and 100 %: Student's t has no bounds, but an error has."""
    if error.low is None or error.high is None:
        return error
    return replace(error, low=max(error.low, 0.0), high=min(error.high, 100.0))


def final(curves: pd.DataFrame, among: Runs, split: str, statistics: str, unit: str = "points") -> Quantity:
    """Each finished run's error at its last step, a fraction; ``context`` names split, statistics and examples."""
    ends = {run.run_id: run.steps for run in among.every if run.finished}
    rows = _of(curves, split, statistics)
    rows = rows[rows["step"] == rows["run_id"].map(ends)]
    counted = sorted(set(rows["examples"]))
    context = {"split": split, "statistics": statistics, "step": "last"}
    context |= {"examples": ", ".join(f"{int(count):,}" for count in counted)} if counted else {}
    return Quantity(unit=unit, values=_values(rows, "error"), context=context)


def before_drop(curves: pd.DataFrame, among: Runs) -> Quantity:
    """The running training error at the last row before the learning rate first drops, at half of the steps."""
    ends = {run.run_id: run.steps // 2 for run in among.every if run.finished}
    rows = _of(curves, "train_running", "batch")
    rows = rows[rows["step"] <= rows["run_id"].map(ends)]
    last = rows[rows["step"] == rows.groupby("run_id")["step"].transform("max")]
    context = {"split": "train_running", "statistics": "batch", "step": "before the first drop"}
    return Quantity(unit="percent", values=_values(last, "error"), context=context)


def gap_curve(results: Results) -> pd.DataFrame:
    """The degradation gap (points) of each kind's deepest and shallowest network at every step measured in both.

    Columns as in ``CURVE``: clean training error with batch statistics, and the running one on augmented batches.
    """
    among = runs(results)
    rows = []
    for split, statistics in (CLAIMED, ("train_running", "batch")):
        measured = _of(results["curves"], split, statistics)
        for step, found in measured.groupby("step"):
            quantity = Quantity(
                unit="points", values=_values(found, "error"), context={"split": split, "statistics": statistics}
            )
            rows += [_point(gap, str(step)) for gap in across_depths(among, quantity, "gap", widest=True) if gap.n]
    return pd.DataFrame(rows, columns=CURVE)


def _point(gap: Estimate, step: str) -> dict[str, object]:
    named = {name: gap.context[name] for name in ("arm", "kind", "split", "statistics")}
    depths = {name: int(gap.context[name]) for name in ("shallow", "deep")}
    return named | depths | {"step": int(step), "gap": gap.value, "low": gap.low, "high": gap.high, "seeds": gap.n}


def _of(curves: pd.DataFrame, split: str, statistics: str) -> pd.DataFrame:
    return curves[(curves["split"] == split) & (curves["statistics"] == statistics)]


def _values(rows: pd.DataFrame, column: str) -> dict[str, float]:
    return {str(run): float(value) for run, value in zip(rows["run_id"], rows[column], strict=True)}
