"""The lesion and reorder frames -> the loss of a network from deleting a block or exchanging two."""

from collections.abc import Iterator

import pandas as pd

from degradation.analysis.contrasts import Quantity, by_run, levels, measured_estimates
from degradation.analysis.estimates import Estimate
from degradation.analysis.runs import Runs
from degradation.spec.grid import CLASSES
from degradation.study.results import Results

CHANCE = 1 - 1 / CLASSES
"""The error of guessing: the classes of both data sets are equally frequent."""
MEANING = "share of the distance to chance: (error {after} - error) / (chance - error), mean over {what}"


def lesion(results: Results, runs: Runs) -> Iterator[Estimate]:
    """``lesion-loss`` of each network (percent), by batch-norm statistics: as trained, and re-estimated.

    Over the blocks that keep the shape, each deleted alone: without downsampling blocks, the same ones in both networks
    of a pair. A share of the distance to chance, since a large error leaves little room to rise.
    """
    frame = results["lesion"]
    single = (frame["kind"] == "single") & (frame["keeps_shape"] == 1) if len(frame) else pd.Series(dtype=bool)
    yield from _losses(runs, frame, single, "lesion-loss", MEANING.format(after="without one block", what="blocks"))


def reorder(results: Results, runs: Runs) -> Iterator[Estimate]:
    """``reorder-loss`` of each network (percent), as ``lesion-loss``: after one exchange of two blocks of a stage."""
    frame = results["reorder"]
    if frame.empty:
        return
    frame = frame.assign(kind=frame["swaps"].map({0: "intact"}).fillna("exchanged"))
    meaning = MEANING.format(after="after one exchange", what="draws")
    yield from _losses(runs, frame, frame["swaps"] == 1, "reorder-loss", meaning)


def _losses(runs: Runs, frame: pd.DataFrame, damaged: "pd.Series[bool]", name: str, meaning: str) -> Iterator[Estimate]:
    """The loss of each network in the damaged rows, relative to the intact ones."""
    if frame.empty:
        return
    for statistics, rows in frame.groupby("statistics", sort=False):
        counts = ", ".join(f"{count:,}" for count in sorted(rows.loc[rows["examples"] > 0, "examples"].unique()))
        context = {"split": "test", "statistics": str(statistics), "examples": counts, "loss": meaning}
        values = losses(rows, damaged[rows.index])
        yield from measured_estimates(levels(runs, Quantity(unit="percent", values=values, context=context), name))


def losses(rows: pd.DataFrame, damaged: "pd.Series[bool]") -> dict[str, float]:
    """run_id -> its mean share of the distance to chance; missing if a network is no better than chance."""
    intact = rows[rows["kind"] == "intact"].set_index("run_id")["error"]
    distance = CHANCE - intact
    rise = rows[damaged].groupby("run_id")["error"].mean() - intact
    return by_run((rise / distance.where(distance > 0)).dropna())
