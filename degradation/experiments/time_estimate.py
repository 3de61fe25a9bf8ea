"""One part of the least and of the greatest network, timed and kept -> the seconds that an experiment has left."""

import time
from collections.abc import Sequence

from degradation.errors import Interrupted
from degradation.experiments.run import ExperimentTask
from degradation.runtime.progress import Progress
from degradation.runtime.signals import StopRequest, stop_requests
from degradation.spec import grid
from degradation.training.cost import line_through


def estimate_remaining(work: ExperimentTask) -> float | None:
    """Measure one part of each of two runs, and tell from them how long the rest will take, in seconds.

    None if nothing is left, or where a part could not be timed: `run_experiment` then reports why.
    Raises Interrupted after SIGINT or SIGTERM.
    """
    left = {run_id: work.left(run_id) for run_id in work.todo}
    if not left:
        return None
    by_work = sorted(left, key=lambda run_id: (_multiply_adds(work, run_id), _weight(work, left[run_id])))
    lightest = [run_id for run_id in by_work if _multiply_adds(work, run_id) == _multiply_adds(work, by_work[0])]
    least, greatest = lightest[-1], by_work[-1]
    with stop_requests() as stop:
        timed = {run_id: _timed(work, run_id, left[run_id], stop) for run_id in dict.fromkeys((least, greatest))}
        if stop.status:
            raise Interrupted(stop.status)
    low, high = timed[least], timed[greatest]
    if low is None or high is None:
        return None
    specs = work.results.specs
    line = line_through(specs[least], specs[greatest], low, high)
    return sum(line(specs[run_id]) * _weight(work, work.left(run_id)) for run_id in left)


def _multiply_adds(work: ExperimentTask, run_id: str) -> int:
    return grid.multiply_adds_of(work.results.specs[run_id])


def _weight(work: ExperimentTask, parts: Sequence[str]) -> float:
    return sum(work.experiment.weight(work.settings, part) for part in parts)


def _timed(work: ExperimentTask, run_id: str, left: Sequence[str], stop: StopRequest) -> float | None:
    """Seconds of the first part that is left, for each unit of its weight; None if it was not measured."""
    clock = PartTimer(stop)
    work.attempt(run_id, clock, clock.enough)
    taken = clock.seconds
    return None if taken is None else taken / _weight(work, left[:1])


class PartTimer:
    """A report that notes when a run was started and when its first part was done, and then asks it to stop."""

    def __init__(self, stop: StopRequest) -> None:
        self.stop = stop
        self.at: dict[str, float] = {}

    def __call__(self, progress: Progress) -> None:
        self.at.setdefault(progress.phase, time.perf_counter())

    def enough(self) -> bool:
        return self.stop() or "measure" in self.at

    @property
    def seconds(self) -> float | None:
        return self.at["measure"] - self.at["started"] if "measure" in self.at else None
