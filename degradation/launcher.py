"""Launchers: pending runs -> `execute`, in this process or in several worker processes of it."""

import multiprocessing
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from degradation.environment import Environment, Options, choose_environment, choose_jobs
from degradation.errors import UseError
from degradation.execute import Ending, execute
from degradation.progress import Progress, Report
from degradation.spec import RunSpec
from degradation.stopping import release_signals, signals_held, stop_requests
from degradation.store import StudyFolder

HELD_SECONDS = 2.0  # how often a run that another process trains is looked at again
WAKE_SECONDS = 0.2  # how soon a stop request is seen while workers are silent

Stop = Callable[[], bool]


@dataclass(frozen=True, kw_only=True)
class Work:
    """What every run of one launch shares; small enough to hand to a process."""

    root: Path
    study: str
    environment: Environment
    data_dir: Path | None
    save_seconds: float

    def attempt(self, run: RunSpec, report: Report, stop: Stop) -> tuple[Ending | None, str]:
        """Execute one run; (ending, "") or (None, the one line that says why it failed)."""
        folder = StudyFolder(self.root, self.study)
        try:
            return execute(
                run, folder, self.environment, report, stop, data_dir=self.data_dir, save_seconds=self.save_seconds
            ), ""
        except UseError as error:
            return None, str(error)
        except Exception as error:
            return None, _remember(folder, run, error)


def _remember(folder: StudyFolder, run: RunSpec, error: Exception) -> str:
    """Keep the traceback in the run's folder; one line that names it."""
    line = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"
    try:
        return f"{line} (traceback in {folder.write_failure(run.run_id, traceback.format_exc())})"
    except UseError:
        return line


def launch(
    folder: StudyFolder, runs: Sequence[RunSpec], options: Options, report: Report, stop: Stop
) -> dict[str, str]:
    """Carry out the runs; returns the failed ones with their line. Ends early, with checkpoints, once ``stop()``."""
    jobs = choose_jobs(options, len(runs))
    work = Work(
        root=folder.store.root,
        study=folder.name,
        environment=choose_environment(options, runs[0].precision, jobs),
        data_dir=options.data_dir,
        save_seconds=options.checkpoint_seconds,
    )
    crew = Crew(work, report, stop)
    todo = tuple(runs)
    while todo and not stop():
        todo = crew.in_turn(todo) if jobs == 1 else crew.in_workers(todo, jobs)
        if todo and not stop():
            time.sleep(HELD_SECONDS)
    return crew.failed


class Crew:
    """Carries out runs and keeps the books: which failed and why, which another process holds."""

    def __init__(self, work: Work, report: Report, stop: Stop) -> None:
        self.work, self.report, self.stop = work, report, stop
        self.failed: dict[str, str] = {}
        self._waited_for: set[str] = set()

    def in_turn(self, runs: Sequence[RunSpec]) -> tuple[RunSpec, ...]:
        """One after the other in this process; returns those that another process holds."""
        held = []
        for run in runs:
            if self.stop():
                break
            if self._ended(run, *self.work.attempt(run, self.report, self.stop)) == "held":
                held.append(run)
        return tuple(held)

    def in_workers(self, runs: Sequence[RunSpec], jobs: int) -> tuple[RunSpec, ...]:
        """Up to ``jobs`` at a time, each in a process of its own; returns those that another process holds."""
        todo, held = deque(runs), list[RunSpec]()
        workers = [Worker(self.work) for _ in range(min(jobs, len(runs)))]
        try:
            while any(worker.run for worker in workers) or (todo and not self.stop()):
                for worker in workers:
                    if self.stop():
                        worker.ask_to_stop()
                    elif todo and worker.run is None:
                        worker.begin(todo.popleft())
                held += [run for run in self._messages(workers) if run is not None]
        finally:
            for worker in workers:
                worker.dismiss()
        return tuple(held)

    def _messages(self, workers: "Sequence[Worker]") -> Iterator[RunSpec | None]:
        """Pass on what the workers say; yields the runs that turned out to be held by another process."""
        ready = wait([worker.connection for worker in workers if worker.run], timeout=WAKE_SECONDS)
        for worker in workers:
            if worker.connection in ready and worker.run:
                run, message = worker.run, worker.receive()
                if isinstance(message, Progress):
                    self.report(message)
                elif self._ended(run, *message) == "held":
                    yield run

    def _ended(self, run: RunSpec, ending: Ending | None, why: str) -> Ending | None:
        if ending is None:
            self.failed[run.run_id] = why
            self.report(Progress(run_id=run.run_id, phase="failed", message=why))
        elif ending == "held" and run.run_id not in self._waited_for:
            self._waited_for.add(run.run_id)
            self.report(Progress(run_id=run.run_id, phase="waiting", message="another process is training it"))
        return ending


class Worker:
    """A process that executes one run after the other; a dead one is replaced when it is next needed."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.run: RunSpec | None = None
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        # No daemon: a run may have processes of its own, which decode its images. It ends with its connection.
        self.process = context.Process(target=work_loop, args=(theirs, self.work))
        with signals_held():  # the process starts with both held, until it can treat them as requests
            self.process.start()
        theirs.close()
        self._asked = False

    def begin(self, run: RunSpec) -> None:
        """Hand a run to the process."""
        if not self.process.is_alive():
            self._start()
        self.run = run
        with suppress(BrokenPipeError):  # the process died at its start: `receive` says so
            self.connection.send(run)

    def receive(self) -> "Progress | tuple[Ending | None, str]":
        """What the process says next; its death is the failure of its run."""
        try:
            message: Progress | tuple[Ending | None, str] = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            died = f"its worker process died (exit code {self.process.exitcode}; -9 often means out of memory)"
            message = ("stopped", "") if self._asked else (None, died)
        if not isinstance(message, Progress):
            self.run = None
        return message

    def ask_to_stop(self) -> None:
        """Once: let the process write its checkpoint and end."""
        if not self._asked and self.process.is_alive():
            self.process.terminate()
        self._asked = True

    def dismiss(self) -> None:
        """No more runs: the process ends by itself."""
        self.connection.close()
        self.process.join(timeout=10)
        if self.process.is_alive():
            self.process.kill()


def work_loop(connection: Connection, work: Work) -> None:
    """The life of a worker process: receive a run, execute it, say how it ended; until its starter is gone."""
    orphaned = False

    def say(message: object) -> None:
        nonlocal orphaned
        try:
            connection.send(message)
        except OSError:
            orphaned = True

    with stop_requests() as stop:
        release_signals()
        while not orphaned:
            try:
                run = connection.recv()
            except EOFError:
                return
            say(work.attempt(run, say, lambda: orphaned or stop()))
