"""Progress messages of many runs -> the completed share of a study's work, each run weighted by its work."""

from collections.abc import Mapping

from degradation.runtime.progress import LASTING, Progress
from degradation.spec import RunSpec, grid


class StudyShare:
    """The completed work of a study's runs, from their progress messages.

    Parameters
    ----------
    runs
        The runs to train, by id.
    """

    def __init__(self, runs: Mapping[str, RunSpec]) -> None:
        self.weights = {run_id: float(grid.work_of(run)) for run_id, run in runs.items()}
        self.whole = sum(self.weights.values())
        self.ended = 0
        self._completed: dict[str, float] = {}
        self._at_start: dict[str, float] = {}

    def add(self, progress: Progress) -> None:
        """Receive a message of a run."""
        run_id = progress.run_id
        weight = self.weights.get(run_id, 0.0)
        if progress.phase in LASTING:
            self.ended += 1
            self._completed[run_id] = weight
        elif progress.steps and not progress.message:
            # The last evaluation counts as one more step: nothing is at 100 % before it has ended.
            self._completed[run_id] = weight * progress.step / (progress.steps + 1)
            self._at_start.setdefault(run_id, self._completed[run_id])

    @property
    def completed(self) -> float:
        """The completed work, in the unit of ``whole``."""
        return sum(self._completed.values())

    @property
    def gained(self) -> float:
        """The work completed here: without what a continued run had completed before."""
        return self.completed - sum(self._at_start.values())
