"""Shared by all launchers: one attempt at a run, and the record of failed, held and retried runs."""

import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

import torch

from degradation.errors import ProcessGroupLost, UserError
from degradation.launchers.worker_log import CaptureOutput, Transcript, captured_warnings, indented
from degradation.runtime.distributed import here
from degradation.runtime.environment import Options, choose_environment
from degradation.runtime.progress import OnProgress, Progress
from degradation.spec import RunSpec
from degradation.store import StudyFolder, Url
from degradation.study import run_logs
from degradation.training.execute import Ending, execute

HELD_SECONDS = 2.0  # after which a run that another process trains is looked at again
PAUSE_SECONDS = 1.0  # before the first retry; twice as long before each further one
ENDED: tuple[Literal["finished", "diverged"], ...] = ("finished", "diverged")
BY_ANOTHER = "trained by another process"

ShouldStop = Callable[[], bool]
Execute = Callable[[RunSpec, StudyFolder, Options, OnProgress, ShouldStop], Ending]
Cause = Literal["", "use", "memory", "error", "died"]


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """How one attempt at a run ended; if it failed ``ending`` is None and ``why`` a line with the reason."""

    ending: Ending | None = None
    why: str = ""
    cause: Cause = ""
    traceback: str = ""
    """Or what a worker that died had printed last."""
    node: str = ""
    """Ray's id of the node that it was made on."""


def execute_run(run: RunSpec, folder: StudyFolder, options: Options, report: OnProgress, stop: ShouldStop) -> Ending:
    """Execute a run with what this machine has of what the options ask for."""
    environment = choose_environment(options, run.precision, options.jobs or 1)
    return execute(
        run, folder, environment, report, stop, data_dir=options.data_dir, save_seconds=options.checkpoint_seconds
    )


@dataclass(frozen=True, kw_only=True)
class LaunchContext:
    """What every run of one launch shares; small enough to be sent to a process on any machine."""

    root: str
    """Of all studies: a path or a URL."""
    study: str
    options: Options
    execute: Execute = execute_run

    @property
    def folder(self) -> StudyFolder:
        return StudyFolder(self.root, self.study)

    def attempt(
        self, run: RunSpec, report: OnProgress, stop: ShouldStop, capture: CaptureOutput = captured_warnings
    ) -> Attempt:
        """Execute one run and keep its log, with the output of the process from ``capture``."""
        try:
            folder = self.folder
        except UserError as error:
            return Attempt(why=str(error), cause="use")
        with capture() as captured_output:
            transcript = Transcript(folder, run, self.options, captured_output)

            def say(progress: Progress) -> None:
                transcript(progress)
                report(progress)

            found = self._tried(run, folder, say, stop)
            if found.ending in ENDED and not transcript.text:  # it was done already: no message yet
                steps = run.recipe.steps
                report(Progress(run_id=run.run_id, phase=found.ending, step=steps, steps=steps, message=BY_ANOTHER))
            transcript.close(found.ending or "failed", found.traceback or found.why)
        if found.ending is None and here().several:  # the others are left during a step: no run can follow
            raise ProcessGroupLost(f"{run.run_id} failed: {found.why}", own=True)
        return found

    def _tried(self, run: RunSpec, folder: StudyFolder, report: OnProgress, stop: ShouldStop) -> Attempt:
        try:
            return Attempt(ending=self.execute(run, folder, self.options, report, stop))
        except ProcessGroupLost:
            raise
        except UserError as error:
            return Attempt(why=str(error), cause="use")
        except Exception as error:
            why = f"{_line(error)} (its traceback: degradation logs {self.study} {run.run_id})"
            cause: Cause = "memory" if _out_of_device_memory(error) else "error"
            return Attempt(why=why, cause=cause, traceback=traceback.format_exc())


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    line = f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
    if "DataLoader worker" in line:  # torch raises it from a signal handler, anywhere in the run
        return f"a process that decodes images died, as where memory is short: try fewer --workers ({line})"
    return line


def _out_of_device_memory(error: Exception) -> bool:
    """Whether the GPU's memory was full: torch's own error, or what CUDA's libraries say when they find none."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and ("CUDA error: out of memory" in text or "STATUS_ALLOC_FAILED" in text)
    )


class RetryTracker:
    """Failed runs with reasons, runs held by another process, and the number of attempts."""

    def __init__(self, folder: StudyFolder, report: OnProgress, retries: int = 0) -> None:
        self.folder, self.report, self.retries = folder, report, retries
        self.failed: dict[str, str] = {}
        self._tried: dict[str, list[str]] = {}
        self._began: dict[str, int] = {}
        self._held: set[str] = set()
        self._ended: set[str] = set()
        self._waits = False

    def on_progress(self, progress: Progress) -> None:
        """Pass a message on. A run that starts from a later checkpoint than before gets all its retries again."""
        run_id = progress.run_id
        if progress.phase == "started" and progress.step > self._began.get(run_id, -1):
            self._began[run_id] = progress.step
            self._tried.pop(run_id, None)
        if progress.phase == "started":
            self._held.discard(run_id)
        if progress.phase in ENDED:
            self._ended.add(run_id)
        self.report(progress)

    def ended(self, run: RunSpec, found: Attempt) -> float | None:
        """Enter how an attempt ended; returns the seconds until a retry, None if there is none."""
        if found.ending == "held":
            return self._wait(run.run_id)
        if found.ending is None:
            return None if self._done_all_the_same(run, found) else self._fail(run.run_id, found)
        return 0.0 if found.ending == "stopped" else None

    def _done_all_the_same(self, run: RunSpec, found: Attempt) -> bool:
        """Whether a worker that died had finished its run, which is then neither failed nor tried again."""
        if found.cause != "died" or not self.folder.is_done(run.run_id):
            return False
        if run.run_id not in self._ended:
            ending, steps = self.folder.done(run.run_id)["status"], run.recipe.steps
            self.on_progress(Progress(run_id=run.run_id, phase=ending, step=steps, steps=steps))
        return True

    def _wait(self, run_id: str) -> float:
        if run_id not in self._held:
            self.report(Progress(run_id=run_id, phase="waiting", message="another process is training it"))
        self._held.add(run_id)
        return HELD_SECONDS

    def left(self, run_ids: Collection[str]) -> None:
        """Enter the remaining runs. If other processes hold them all, report once that they are waited for."""
        if self._waits or not run_ids or not self._held.issuperset(run_ids):
            return
        self._waits = True
        named = ", ".join(sorted(run_ids))
        dead = " (a dead process holds its runs for a minute)" if isinstance(self.folder.path, Url) else ""
        message = f"only runs of other processes are left; waiting for them{dead}: {named}"
        self.report(Progress(run_id="", phase="waiting", message=message))

    def _fail(self, run_id: str, found: Attempt) -> float | None:
        earlier = self._tried.setdefault(run_id, [])
        if found.cause == "died":
            self._note(run_id, found)
        hopeless = found.cause == "memory" or (found.cause == "use" and found.why in earlier)
        if hopeless or len(earlier) >= self.retries:
            self.failed[run_id] = found.why
            self.report(Progress(run_id=run_id, phase="failed", message=found.why))
            return None
        earlier.append(found.why)
        message = f"{found.why.removesuffix('.')}; tried again, {len(earlier)} of {self.retries}"
        self.report(Progress(run_id=run_id, phase="waiting", message=message))
        return float(PAUSE_SECONDS * 2 ** (len(earlier) - 1))

    def _note(self, run_id: str, found: Attempt) -> None:
        """Log why a worker died, and its last output: it could not do so itself."""
        try:
            run_logs.note(self.folder, run_id, f"{indented(found.traceback)}{found.why}\n")
        except UserError:
            return  # the last line of the study reports it as well
