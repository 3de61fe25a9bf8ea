"""Shared by all launchers: one attempt at a run, and the record of failed, held and retried runs."""

import traceback
from collections.abc import Callable, Collection
from contextlib import suppress
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

HELD_SECONDS = 2.0  # between two checks of a run that another process trains
PAUSE_SECONDS = 1.0  # before the first retry; doubled before each further one
ENDED: tuple[Literal["finished", "diverged"], ...] = ("finished", "diverged")
BY_ANOTHER = "trained by another process"

ShouldStop = Callable[[], bool]
Execute = Callable[[RunSpec, StudyFolder, Options, OnProgress, ShouldStop], Ending]
Cause = Literal["", "use", "memory", "error", "died"]


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """The end of one attempt at a run; if it failed, ``ending`` is None and ``why`` is a line with the reason."""

    ending: Ending | None = None
    why: str = ""
    cause: Cause = ""
    traceback: str = ""
    """Or the last output of a worker that died."""
    node: str = ""
    """Ray's id of the node of the attempt."""


def execute_run(run: RunSpec, folder: StudyFolder, options: Options, report: OnProgress, stop: ShouldStop) -> Ending:
    """Execute a run in the environment that this machine offers for the options."""
    environment = choose_environment(options, run.precision, options.jobs or 1)
    return execute(
        run, folder, environment, report, stop, data_dir=options.data_dir, save_seconds=options.checkpoint_seconds
    )


@dataclass(frozen=True, kw_only=True)
class LaunchContext:
    """The data that all runs of a launch share; small enough to be sent to a process on any machine."""

    root: str
    """Folder of all studies: a path or a URL."""
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

            def log_and_report(progress: Progress) -> None:
                transcript(progress)
                report(progress)

            attempt = self._execute(run, folder, log_and_report, stop)
            if attempt.ending in ENDED and not transcript.text:  # it was done already: no message yet
                steps = run.recipe.steps
                report(Progress(run_id=run.run_id, phase=attempt.ending, step=steps, steps=steps, message=BY_ANOTHER))
            transcript.close(attempt.ending or "failed", attempt.traceback or attempt.why)
        if attempt.ending is None and here().several:  # the other ranks are inside a step: no run can follow
            raise ProcessGroupLost(f"{run.run_id} failed: {attempt.why}", own=True)
        return attempt

    def _execute(self, run: RunSpec, folder: StudyFolder, report: OnProgress, stop: ShouldStop) -> Attempt:
        """Execute the run; an error becomes a failed attempt."""
        try:
            return Attempt(ending=self.execute(run, folder, self.options, report, stop))
        except ProcessGroupLost:
            raise
        except UserError as error:
            return Attempt(why=str(error), cause="use")
        except Exception as error:
            why = f"{_error_line(error)} (its traceback: degradation logs {self.study} {run.run_id})"
            cause: Cause = "memory" if _out_of_device_memory(error) else "error"
            return Attempt(why=why, cause=cause, traceback=traceback.format_exc())


def _error_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    line = f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
    if "DataLoader worker" in line:  # torch raises it from a signal handler, anywhere in the run
        return f"a process that decodes images died, as where memory is short: try fewer --workers ({line})"
    return line


def _out_of_device_memory(error: Exception) -> bool:
    """Whether the GPU's memory was full, from torch's own error or those of CUDA's libraries."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and ("CUDA error: out of memory" in text or "STATUS_ALLOC_FAILED" in text)
    )


class RetryTracker:
    """Failed runs with reasons, runs held by another process, and the number of attempts."""

    def __init__(self, folder: StudyFolder, report: OnProgress, retries: int = 0) -> None:
        self.folder, self.report, self.retries = folder, report, retries
        self.failed: dict[str, str] = {}
        self._failures: dict[str, list[str]] = {}
        self._first_step: dict[str, int] = {}
        self._held: set[str] = set()
        self._ended: set[str] = set()
        self._wait_reported = False

    def on_progress(self, progress: Progress) -> None:
        """Pass a message on. A run that starts from a later checkpoint than before gets all its retries again."""
        run_id = progress.run_id
        if progress.phase == "started":
            self._held.discard(run_id)
            if progress.step > self._first_step.get(run_id, -1):
                self._first_step[run_id] = progress.step
                self._failures.pop(run_id, None)
        if progress.phase in ENDED:
            self._ended.add(run_id)
        self.report(progress)

    def ended(self, run: RunSpec, attempt: Attempt) -> float | None:
        """Record the end of an attempt; returns the seconds until a retry, None without a retry."""
        if attempt.ending == "held":
            if run.run_id not in self._held:
                self._report_waiting(run.run_id, "another process is training it")
            self._held.add(run.run_id)
            return HELD_SECONDS
        if attempt.ending is None:
            return None if self._is_done_anyway(run, attempt) else self._fail(run.run_id, attempt)
        return 0.0 if attempt.ending == "stopped" else None

    def _is_done_anyway(self, run: RunSpec, attempt: Attempt) -> bool:
        """Whether a worker that died had finished its run, which has then not failed."""
        if attempt.cause != "died" or not self.folder.is_done(run.run_id):
            return False
        if run.run_id not in self._ended:
            ending, steps = self.folder.done(run.run_id)["status"], run.recipe.steps
            self.on_progress(Progress(run_id=run.run_id, phase=ending, step=steps, steps=steps))
        return True

    def remaining(self, run_ids: Collection[str]) -> None:
        """If other processes hold all of the remaining runs, report once that they are waited for."""
        if self._wait_reported or not run_ids or not self._held.issuperset(run_ids):
            return
        self._wait_reported = True
        dead = " (a dead process holds its runs for a minute)" if isinstance(self.folder.path, Url) else ""
        names = ", ".join(sorted(run_ids))
        self._report_waiting("", f"only runs of other processes are left; waiting for them{dead}: {names}")

    def _report_waiting(self, run_id: str, message: str) -> None:
        self.report(Progress(run_id=run_id, phase="waiting", message=message))

    def _fail(self, run_id: str, attempt: Attempt) -> float | None:
        """Record a failed attempt; returns the seconds until a retry, None without a retry."""
        failures, why = self._failures.setdefault(run_id, []), attempt.why
        if attempt.cause == "died":  # the worker could not write this into its log
            with suppress(UserError):  # the last line of the study reports it as well
                run_logs.note(self.folder, run_id, f"{indented(attempt.traceback)}{why}\n")
        hopeless = attempt.cause == "memory" or (attempt.cause == "use" and why in failures)
        if hopeless or len(failures) >= self.retries:
            self.failed[run_id] = why
            self.report(Progress(run_id=run_id, phase="failed", message=why))
            return None
        failures.append(why)
        self._report_waiting(run_id, f"{why.removesuffix('.')}; tried again, {len(failures)} of {self.retries}")
        return float(PAUSE_SECONDS * 2 ** (len(failures) - 1))
