"""The curves frame -> final errors, the degradation gap and the shortcut effect, and the gap over the steps."""

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from degradation.analysis import contrasts
from degradation.analysis.contrasts import Quantity, across_depths, by_run, levels
from degradation.analysis.estimates import Estimate
from degradation.analysis.runs import Runs
from degradation.analysis.runs import runs as runs_of
from degradation.study.results import Results

CLAIMED = ("train", "batch")
"""Split and statistics of the training error of the claims: clean images; for a deep plain network the running
batch-norm statistics can be useless, so those of each batch are used."""
TESTED = ("test", "running")
MEASURES = (CLAIMED, ("train", "running"), ("train_running", "batch"), TESTED)
CURVE = ["arm", "kind", "shallow", "deep", "split", "statistics", "step", "gap", "low", "high", "seeds"]


def errors(results: Results, runs: Runs) -> Iterator[Estimate]:
    """Final errors of each network (percent), then differences between them (points)."""
    curves = results["curves"]
    for split, statistics in MEASURES:
        levels_at_end = levels(runs, final(curves, runs, split, statistics, unit="percent"), "final-error")
        yield from map(within_bounds, levels_at_end)
    if any(run.steps >= results.study.paper_steps for run in runs.every):
        yield from map(within_bounds, levels(runs, before_drop(curves, runs), "error-before-drop"))
    claimed = final(curves, runs, *CLAIMED)
    yield from across_depths(runs, claimed, "degradation-gap")
    yield from contrasts.across_kinds(runs, claimed, "shortcut-effect")
    yield from contrasts.across_arms(runs, claimed, "arm-effect")
    yield from contrasts.gaps_across_arms(runs, claimed, "arm-gap")
    for split, statistics in (CLAIMED, TESTED):
        yield from contrasts.across_shortcuts(runs, final(curves, runs, split, statistics), "shortcut-options")


def within_bounds(error: Estimate) -> Estimate:
    """An error with its interval cut at 0 and 100 %: Student's t has no bounds, but an error has."""
    if error.low is None or error.high is None:
        return error
    return replace(error, low=max(error.low, 0.0), high=min(error.high, 100.0))


def final(curves: pd.DataFrame, runs: Runs, split: str, statistics: str, unit: str = "points") -> Quantity:
    """Each finished run's error at its last step, a fraction; ``context`` names split, statistics and examples."""
    rows = runs.at_last_step(_of(curves, split, statistics))
    counts = ", ".join(f"{int(count):,}" for count in sorted(set(rows["examples"])))
    context = {"split": split, "statistics": statistics, "step": "last"}
    context |= {"examples": counts} if counts else {}
    return Quantity(unit=unit, values=_errors(rows), context=context)


def before_drop(curves: pd.DataFrame, runs: Runs) -> Quantity:
    """The running training error at the last row before the learning rate first drops, at half of the steps."""
    rows = _of(curves, "train_running", "batch")
    rows = rows[rows["step"] <= rows["run_id"].map({run_id: steps // 2 for run_id, steps in runs.last_steps.items()})]
    last = rows[rows["step"] == rows.groupby("run_id")["step"].transform("max")]
    context = {"split": "train_running", "statistics": "batch", "step": "before the first drop"}
    return Quantity(unit="percent", values=_errors(last), context=context)


def gap_curve(results: Results) -> pd.DataFrame:
    """The degradation gap (points) of each kind's deepest and shallowest network at every step measured in both.

    Columns as in ``CURVE``: clean training error with batch statistics, and the running one on augmented batches.
    """
    runs = runs_of(results)
    rows = []
    for split, statistics in (CLAIMED, ("train_running", "batch")):
        context = {"split": split, "statistics": statistics}
        for step, at_step in _of(results["curves"], split, statistics).groupby("step"):
            quantity = Quantity(unit="points", values=_errors(at_step), context=context)
            for gap in across_depths(runs, quantity, "gap", widest=True):
                numbers = {"step": int(str(step)), "gap": gap.value, "low": gap.low, "high": gap.high, "seeds": gap.n}
                depths = {name: int(gap.context[name]) for name in ("shallow", "deep")}
                rows += [{**gap.context, **depths, **numbers}] if gap.n else []
    return pd.DataFrame(rows, columns=CURVE)


def _of(curves: pd.DataFrame, split: str, statistics: str) -> pd.DataFrame:
    return curves[(curves["split"] == split) & (curves["statistics"] == statistics)]


def _errors(rows: pd.DataFrame) -> dict[str, float]:
    return by_run(rows.set_index("run_id")["error"])
