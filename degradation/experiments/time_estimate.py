"""One part of the smallest and of the largest network, timed and saved -> the seconds that an experiment will take."""

import time
from collections.abc import Sequence

from degradation.errors import Interrupted
from degradation.experiments.run import ExperimentTask
from degradation.runtime.progress import Progress
from degradation.runtime.signals import StopRequest, stop_requests
from degradation.spec import grid
from degradation.training.cost import line_through


def estimate_remaining(task: ExperimentTask) -> float | None:
    """Measure one part of each of two runs, and estimate from them the seconds that the others will take.

    None if nothing remains, or if a part could not be timed: `run_experiment` then reports why.
    Raises Interrupted after SIGINT or SIGTERM.
    """
    remaining = {run_id: task.remaining(run_id) for run_id in task.todo}
    if not remaining:
        return None
    specs = task.results.specs
    size = {run_id: grid.multiply_adds_of(specs[run_id]) for run_id in remaining}
    by_size = sorted(remaining, key=lambda run_id: (size[run_id], _weight(task, remaining[run_id])))
    smallest = [run_id for run_id in by_size if size[run_id] == size[by_size[0]]][-1]
    largest = by_size[-1]
    with stop_requests() as stop:
        low = _time(task, smallest, remaining[smallest], stop)
        high = low if largest == smallest else _time(task, largest, remaining[largest], stop)
        if stop.status:
            raise Interrupted(stop.status)
    if low is None or high is None:
        return None
    line = line_through(specs[smallest], specs[largest], low, high)
    return sum(line(specs[run_id]) * _weight(task, task.remaining(run_id)) for run_id in remaining)


def _weight(task: ExperimentTask, parts: Sequence[str]) -> float:
    return sum(task.experiment.weight(task.settings, part) for part in parts)


def _time(task: ExperimentTask, run_id: str, parts: Sequence[str], stop: StopRequest) -> float | None:
    """Measure the first of the parts: seconds for each unit of its weight; None if it was not measured."""
    started: dict[str, float] = {}  # phase -> when it was first reported; "measure" is reported after a part

    def note_time(progress: Progress) -> None:
        started.setdefault(progress.phase, time.perf_counter())

    task.attempt(run_id, note_time, lambda: stop() or "measure" in started)
    if "measure" not in started:
        return None
    return (started["measure"] - started["started"]) / _weight(task, parts[:1])
