"""Launchers: pending runs -> `execute`, in this process and workers of it, or on the nodes of a Ray cluster."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from degradation.runtime.environment import Options
from degradation.runtime.progress import OnProgress
from degradation.spec import RunSpec, StudySpec

if TYPE_CHECKING:
    from degradation.launchers.attempts import LaunchContext, ShouldStop
    from degradation.training.cost import Costs


class Launcher(Protocol):
    """The interface of a launcher, a module of this package; its dependencies are imported at first use."""

    def ready(self, options: Options) -> AbstractContextManager[str]:
        """Hold the resources of the runs; yields a sentence that describes them, empty for this machine."""

    def resolve_options(self, options: Options, runs: int) -> Options:
        """The options with chosen numbers of threads per run and of parallel runs; ``runs`` is the number of all."""

    def check(self, work: "LaunchContext", study: StudySpec) -> None:
        """Raise UserError if data or device are missing, before any training."""

    def time_costs(self, study: StudySpec, options: Options) -> "Costs":
        """Time real steps where the runs will be executed."""

    def launch(
        self, work: "LaunchContext", runs: Sequence[RunSpec], report: OnProgress, stop: "ShouldStop"
    ) -> dict[str, str]:
        """Execute the runs; returns failed run -> reason. Ends early, with checkpoints, after ``stop()`` is true."""


def launcher(options: Options) -> Launcher:
    """The launcher with the name in the options."""
    if options.launcher == "ray":
        from degradation.launchers import ray

        return ray
    from degradation.launchers import local

    return local
