"""Runs executed on this machine: one after the other in this process, or in several worker processes of it."""

import multiprocessing
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait

from degradation.data import load_images
from degradation.errors import UserError
from degradation.launchers.attempts import HELD_SECONDS, Attempt, LaunchContext, RetryTracker, ShouldStop
from degradation.launchers.worker_log import captured, last_words
from degradation.runtime.environment import Options, choose_environment, choose_jobs, cores
from degradation.runtime.progress import OnProgress, Progress
from degradation.runtime.signals import pass_over_interrupts, release_signals, signals_held, stop_requests
from degradation.spec import RunSpec, StudySpec
from degradation.training.cost import time_costs

WAKE_SECONDS = 0.2  # between two checks for a stop request while workers are silent


def ready(options: Options) -> AbstractContextManager[str]:
    """No resources to hold."""
    return nullcontext("")


def resolve_options(options: Options, runs: int) -> Options:
    """As many parallel runs as the machine can execute; they share its cores."""
    jobs = choose_jobs(options, runs)
    return replace(options, jobs=jobs, threads=options.threads or max(1, cores() // jobs))


def check(work: LaunchContext, study: StudySpec) -> None:
    """Raise UserError if data or device are missing on this machine."""
    load_images(study.dataset, work.options.data_dir)
    choose_environment(work.options, study.precision, work.options.jobs or 1)


def launch(work: LaunchContext, runs: Sequence[RunSpec], report: OnProgress, stop: ShouldStop) -> dict[str, str]:
    """Execute the runs; returns failed run -> reason. Ends early, with checkpoints, after ``stop()`` is true."""
    todo, jobs = tuple(runs), choose_jobs(work.options, len(runs))
    if jobs > 1 and not work.folder.store.shared:
        raise UserError(f"{work.folder.path} lives in one process: expected --jobs 1, not {jobs}")
    pool = WorkerPool(work, report, stop)
    while todo and not stop():
        todo = pool.in_turn(todo) if jobs == 1 else pool.in_workers(todo, jobs)
        if todo and not stop():
            pool.retries.remaining([run.run_id for run in todo])
            time.sleep(HELD_SECONDS)
    return pool.retries.failed


class WorkerPool:
    """Executes runs in this process or in workers of it."""

    def __init__(self, work: LaunchContext, report: OnProgress, stop: ShouldStop) -> None:
        self.work, self.stop = work, stop
        self.retries = RetryTracker(work.folder, report)

    def in_turn(self, runs: Sequence[RunSpec]) -> tuple[RunSpec, ...]:
        """Execute the runs one after the other in this process; returns those that another process holds."""
        held = []
        for run in runs:
            if self.stop():
                break
            if self.retries.ended(run, self.work.attempt(run, self.retries.on_progress, self.stop)) is not None:
                held.append(run)
        return tuple(held)

    def in_workers(self, runs: Sequence[RunSpec], jobs: int) -> tuple[RunSpec, ...]:
        """Execute up to ``jobs`` runs at a time in worker processes; returns those that another process holds."""
        todo, held = deque(runs), list[RunSpec]()
        workers = [Worker(self.work) for _ in range(min(jobs, len(runs)))]
        try:
            while any(worker.run for worker in workers) or (todo and not self.stop()):
                for worker in workers:
                    if self.stop():
                        worker.ask_to_stop()
                    elif todo and worker.run is None:
                        worker.begin(todo.popleft())
                held += self._messages(workers)
        finally:
            for worker in workers:
                worker.dismiss()
        return tuple(held)

    def _messages(self, workers: "Sequence[Worker]") -> Iterator[RunSpec]:
        """Pass on the workers' messages; yields the runs that another process holds."""
        ready = wait([worker.connection for worker in workers if worker.run], timeout=WAKE_SECONDS)
        if self.stop():  # Ctrl-C reaches the workers, too: a worker that ends by it was stopped and did not die
            for worker in workers:
                worker.ask_to_stop()
        for worker in workers:
            if worker.connection in ready and worker.run:
                run, message = worker.run, worker.receive()
                if isinstance(message, Progress):
                    self.retries.on_progress(message)
                elif self.retries.ended(run, message) is not None:
                    yield run


class Worker:
    """A process that executes one run after the other; a dead process is replaced for the next run."""

    def __init__(self, work: LaunchContext) -> None:
        self.work = work
        self.run: RunSpec | None = None
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, worker_end = context.Pipe()
        # No daemon: a run may start processes that decode its images. The process ends with its connection.
        self.process = context.Process(target=work_loop, args=(worker_end, self.work))
        with signals_held():  # both signals are blocked in the new process until it can treat them as requests
            self.process.start()
        worker_end.close()
        self._stop_asked = False

    def begin(self, run: RunSpec) -> None:
        """Send a run to the process."""
        if not self.process.is_alive():
            self._start()
        self.run = run
        with suppress(BrokenPipeError):  # the process died at its start: `receive` reports it
            self.connection.send(run)

    def receive(self) -> Progress | Attempt:
        """The next message of the process; its death is the failure of its run."""
        try:
            message: Progress | Attempt = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            why = f"its worker process died (exit code {self.process.exitcode}; -9 often means out of memory)"
            message = Attempt(ending="stopped")
            if not self._stop_asked:
                output = last_words(self.process.pid) if self.process.pid else ""
                message = Attempt(why=why, cause="died", traceback=output)
        if not isinstance(message, Progress):
            self.run = None
            if message.ending == "stopped":  # it executes no further run
                self.process.join()
        return message

    def ask_to_stop(self) -> None:
        """Let the process write its checkpoint and end; further calls do nothing."""
        if not self._stop_asked and self.process.is_alive():
            self.process.terminate()
        self._stop_asked = True

    def dismiss(self) -> None:
        """Close the connection: the process ends, since there are no more runs."""
        self.connection.close()
        self.process.join(timeout=10)
        if self.process.is_alive():
            self.process.kill()


def work_loop(connection: Connection, work: LaunchContext) -> None:
    """The loop of a worker process: receive a run, execute it, report its end; until a stop or the parent's end."""
    orphaned = False

    def send(message: object) -> None:
        nonlocal orphaned
        try:
            connection.send(message)
        except OSError:
            orphaned = True

    pass_over_interrupts()  # outside the block below a second Ctrl-C would print a traceback
    with stop_requests() as stop:
        release_signals()
        while not orphaned and not stop():
            try:
                run = connection.recv()
            except EOFError:
                return
            send(work.attempt(run, send, lambda: orphaned or stop(), captured))


__all__ = ["check", "launch", "ready", "resolve_options", "time_costs"]
