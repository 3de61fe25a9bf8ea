"""Progress messages of many runs -> the share of a study's work that is done, each run weighted by its work."""

from collections.abc import Mapping

from degradation.runtime.progress import LASTING, Progress
from degradation.spec import RunSpec, grid


class StudyShare:
    """What is done of the runs of a study, as they say it.

    Parameters
    ----------
    runs
        The runs that are carried out, by their ids.
    """

    def __init__(self, runs: Mapping[str, RunSpec]) -> None:
        self.weights = {run_id: float(grid.work_of(run)) for run_id, run in runs.items()}
        self.whole = sum(self.weights.values())
        self.ended = 0
        self._parts: dict[str, float] = {}
        self._before: dict[str, float] = {}

    def add(self, progress: Progress) -> None:
        """Take in what a run says."""
        weight = self.weights.get(progress.run_id, 0.0)
        if progress.phase in LASTING:
            self.ended += 1
            self._parts[progress.run_id] = weight
        elif progress.steps and not progress.message:
            # The last evaluation counts as one step more: nothing is at 100 % before it has ended.
            self._parts[progress.run_id] = weight * progress.step / (progress.steps + 1)
            self._before.setdefault(progress.run_id, self._parts[progress.run_id])

    @property
    def completed(self) -> float:
        """The work that is done, in the unit of ``whole``."""
        return sum(self._parts.values())

    @property
    def gained(self) -> float:
        """What was done of it here: without what a run that is continued had done before."""
        return self.completed - sum(self._before.values())
