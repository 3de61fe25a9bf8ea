"""The runs frame -> how much longer a deeper network takes, and one with shortcuts."""

from collections.abc import Iterator

from degradation.analysis.contrasts import Quantity, across_kinds, exponents
from degradation.analysis.estimates import Estimate
from degradation.analysis.runs import Runs
from degradation.study.results import Results


def duration(results: Results, runs: Runs) -> Iterator[Estimate]:
    """``time-exponent``, by which power of the depth a step's time grows, and ``time-effect``, plain over residual.

    Wall time of the whole run, its measuring too, by the steps. What else the machine did meanwhile is in it.
    """
    seconds = results["runs"].set_index("run_id")["wall_seconds"]
    values = {run.run_id: float(seconds[run.run_id]) / run.steps for run in runs.every if run.finished}
    quantity = Quantity(unit="factor", values=values, context={"time": "wall time of a step, with its measuring"})
    yield from exponents(runs, quantity, "time-exponent")
    yield from across_kinds(runs, quantity, "time-effect")
