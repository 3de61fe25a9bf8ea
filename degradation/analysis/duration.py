"""The runs frame -> the effect of depth and of shortcuts on the time of a step."""

from collections.abc import Iterator

from degradation.analysis.contrasts import Quantity, across_kinds, exponents
from degradation.analysis.estimates import Estimate
from degradation.analysis.runs import Runs
from degradation.study.results import Results


def duration(results: Results, runs: Runs) -> Iterator[Estimate]:
    """``time-exponent``: the power of the depth with which a step's time grows; ``time-effect``: plain over residual.

    Wall time of the whole run with its measurements, divided by the steps. Other load of the machine is included.
    """
    seconds = results["runs"].set_index("run_id")["wall_seconds"]
    values = {run_id: float(seconds[run_id]) / steps for run_id, steps in runs.last_steps.items()}
    quantity = Quantity(unit="factor", values=values, context={"time": "wall time of a step, with its measurements"})
    yield from exponents(runs, quantity, "time-exponent")
    yield from across_kinds(runs, quantity, "time-effect")
