"""The responses frame -> the level of a network's responses, deep minus shallow, and plain minus residual."""

from collections.abc import Iterator

import pandas as pd

from degradation.analysis.contrasts import Quantity, across_depths, across_kinds, by_run, levels
from degradation.analysis.estimates import Estimate
from degradation.analysis.runs import Runs
from degradation.study.results import Results

READ = ("step", "layer", "split", "statistics", "std")
MEANING = {"level": "mean over layers of the response's std", "middle": "median over layers of the response's std"}


def responses(results: Results, runs: Runs) -> Iterator[Estimate]:
    """Levels (std, after batch norm, before ReLU or addition) at the last step, and their differences.

    The level is the mean over all 3x3 layers: the two layers of a residual block differ, so a median would be
    between two clusters. The median, ``response-middle``, is what was read from the paper's Figure 7.
    """
    frame = results.frame("responses", READ)
    if frame.empty:
        return
    level = at_the_end(frame, runs, "mean", MEANING["level"])
    yield from levels(runs, level, "response-level")
    yield from across_depths(runs, level, "response-gap")
    yield from across_kinds(runs, level, "response-effect")
    yield from levels(runs, at_the_end(frame, runs, "median", MEANING["middle"]), "response-middle")


def at_the_end(frame: pd.DataFrame, runs: Runs, over_layers: str, meaning: str) -> Quantity:
    """Each finished run's std over layers at its last step: of the augmented batch, with that batch's statistics."""
    rows = runs.at_last_step(frame[(frame["split"] == "train_batch") & (frame["statistics"] == "batch")])
    deviations = rows.groupby("run_id", observed=True)["std"]
    level = by_run(deviations.agg(lambda std: getattr(std, over_layers)(skipna=False)))
    context = {"split": "train_batch", "statistics": "batch", "step": "last", "level": meaning}
    return Quantity(unit="std", values=level, context=context)
