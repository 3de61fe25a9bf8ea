"""The lesion frame -> how much of what a network has learned it loses with one block."""

from collections.abc import Iterator

import pandas as pd

from degradation.analysis.findings import Estimate
from degradation.analysis.quantities import Quantity, levels
from degradation.analysis.runs import Runs
from degradation.plan import CLASSES
from degradation.results import Results

CHANCE = 1 - 1 / CLASSES
"""The error of guessing, both data sets' classes being equally frequent."""
MEANING = "share of the way to chance: (error without one block - error) / (chance - error), mean over blocks"


def lesion(results: Results, runs: Runs) -> Iterator[Estimate]:
    """``lesion-loss`` of each network (percent), by batch-norm statistics: as trained, and re-estimated.

    Of the blocks that keep the shape, each deleted alone, so that downsampling blocks are aside and both networks of a
    pair lose the same ones. A share of the way to chance, since a rise in points is small where the error is large.
    """
    frame = results["lesion"]
    if frame.empty:
        return
    for statistics, rows in frame.groupby("statistics", sort=False):
        counted = ", ".join(f"{count:,}" for count in sorted(rows.loc[rows["examples"] > 0, "examples"].unique()))
        context = {"split": "test", "statistics": str(statistics), "examples": counted, "loss": MEANING}
        found = levels(runs, Quantity(unit="percent", values=losses(rows), context=context), "lesion-loss")
        yield from (each for each in found if each.n or "diverged" in each.context)


def losses(rows: pd.DataFrame) -> dict[str, float]:
    """run_id -> its mean share of the way to chance; missing where a network is no better than chance."""
    single = rows[(rows["kind"] == "single") & (rows["keeps_shape"] == 1)]
    whole = rows[rows["kind"] == "intact"].set_index("run_id")["error"]
    room = CHANCE - whole
    without = single.groupby("run_id")["error"].mean()
    share = ((without - whole) / room.where(room > 0)).dropna()
    return {str(run): float(value) for run, value in share.items()}
