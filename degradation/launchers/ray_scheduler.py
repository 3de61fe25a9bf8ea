"""Runs -> Ray tasks: their order, their results, and retries on other nodes."""

import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, LocalRayletDiedError, RayError, RayTaskError, TaskCancelledError

from degradation.errors import UserError
from degradation.launchers import ray_tasks
from degradation.launchers.attempts import Attempt, LaunchContext, RetryTracker, ShouldStop
from degradation.launchers.board import Board
from degradation.launchers.ray_cluster import ClusterError, Head, alive, on_node, resources, task
from degradation.launchers.ray_resources import Share
from degradation.launchers.worker_log import last_words
from degradation.runtime.progress import OnProgress, Progress
from degradation.spec import RunSpec, grid
from degradation.study import run_logs

RETRIES = 3
WAKE_SECONDS = 0.2  # between two checks for a stop request and for messages
WORDS_SECONDS = 20.0  # longest wait for the last output of a dead worker
END_SECONDS = 60.0  # longest wait for the checkpoints of workers that were asked to stop
AHEAD = 8  # tasks that wait in Ray in addition to the running ones, so that no node is idle
MESSAGES = {
    "WorkerCrashedError": "its worker process died",
    "NodeDiedError": "its node died",
    "OutOfMemoryError": "its node was out of memory and Ray ended it",
}


def dead(error: RayError) -> str:
    """Ray's message as one line."""
    lines = [text.strip() for text in str(error).splitlines() if text.strip()] or [type(error).__name__]
    return MESSAGES.get(type(error).__name__, lines[-1] if isinstance(error, RayTaskError) else lines[0])


@dataclass(frozen=True, kw_only=True)
class PendingRun:
    """A pending run, not to be started before a time of the monotonic clock."""

    run: RunSpec
    since: float = 0.0


@dataclass(frozen=True, kw_only=True)
class RunningTask:
    """A run that was submitted to Ray, and its share."""

    run: RunSpec
    share: Share


class Dispatch:
    """Submits the pending runs to the cluster, longest first, and records how they end."""

    def __init__(self, work: LaunchContext, share: Share, report: OnProgress, stop: ShouldStop) -> None:
        self.work, self.share, self.stop = work, share, stop
        self.retries = RetryTracker(work.folder, report, RETRIES)
        self.todo: list[PendingRun] = []
        self.flights: dict[Any, RunningTask] = {}
        self.started: set[str] = set()
        self.failed_on: dict[str, set[str]] = {}
        self.head = Head()
        here = on_node(ray.get_runtime_context().get_node_id())
        self.board: Any = ray.remote(Board).options(num_cpus=0, max_restarts=-1, scheduling_strategy=here).remote()
        self._request: Any = None  # for the messages, while it has no answer
        self._task = task(ray_tasks.attempt_run, share)

    def run_all(self, runs: Sequence[RunSpec]) -> None:
        """Execute the runs until each is done or has failed, or a stop is requested; then checkpoints are written.

        Raises ClusterError if the cluster is gone, or a node cannot execute runs; started runs have a checkpoint.
        """
        self.todo = [PendingRun(run=run) for run in sorted(runs, key=grid.work_of, reverse=True)]
        try:
            while (self.todo or self.flights) and not self.stop():
                if self._has_head() and self.todo:
                    self._submit()
                self._collect(WAKE_SECONDS)
        finally:
            self._end()
            self._take_messages()
            ray.kill(self.board)

    def _has_head(self) -> bool:
        """Whether the head answers; a message reports when it stops answering."""
        answered, answers = self.head.answers, self.head.ask()
        if answered and not answers:
            message = f"the head of the Ray cluster, {self.head.address}, does not answer: waiting for it"
            self.retries.on_progress(Progress(run_id="", phase="note", message=message))
        return answers

    def _submit(self) -> None:
        """Submit runs to Ray, longest first, and so many that every node is busy."""
        now, limit = time.monotonic(), self.share.within(resources()) + AHEAD
        limit = min(limit, self.work.options.jobs or limit)
        for waiting in [waiting for waiting in self.todo if waiting.since <= now][: max(0, limit - len(self.flights))]:
            self.todo.remove(waiting)
            self.started.discard(waiting.run.run_id)
            placed = self._task.options(scheduling_strategy=self._place(waiting.run), **self.share.ray_options())
            ref = self.head.answer(partial(placed.remote, *ray_tasks.packed(self.work, waiting.run), self.board))
            self.flights[ref] = RunningTask(run=waiting.run, share=self.share)

    def _place(self, run: RunSpec) -> Any:
        """The scheduling strategy of a run: any node; after a failure, if possible, a node where it has not failed."""
        failed_on = self.failed_on.get(run.run_id, set())
        node_ids = [
            node["NodeID"]
            for node in (alive() if failed_on else ())
            if node["NodeID"] not in failed_on and self.share.within([node["Resources"]])
        ]
        return on_node(random.choice(node_ids), soft=True) if node_ids else "SPREAD"

    def _collect(self, timeout: float) -> None:
        """Pass on the messages, then record the runs that have ended."""
        if not self.flights:
            time.sleep(timeout)
            return
        refs = list(self.flights)
        ended: list[Any] = []
        if ray.wait(refs, timeout=timeout)[0]:
            ended, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
        self._pass_on()
        for ref in ended:
            self._record(self.flights.pop(ref), _outcome(ref))

    def _pass_on(self) -> None:
        """Pass on new messages; none while the actor is being started."""
        self._request = self._request or self.board.take.remote()
        try:
            messages = ray.get(self._request, timeout=WAKE_SECONDS)
        except GetTimeoutError:
            return
        except RayError:  # the board died and is started again; its messages are lost
            messages = []
        self._request = None
        for progress in messages:
            self.started.add(progress.run_id)
            self.retries.on_progress(progress)

    def _record(self, flight: RunningTask, attempt: Attempt) -> None:
        """Record the end of an attempt; its run waits again if it is to be retried."""
        if attempt.cause == "died":
            attempt = replace(attempt, traceback=self._last_words(flight.run))
        elif attempt.cause and attempt.node:
            self.failed_on.setdefault(flight.run.run_id, set()).add(attempt.node)
        if attempt.cause == "memory" and flight.share.gpus and flight.share.gpus < 1:
            self._pack_less(flight, attempt)
        elif (pause := self.retries.ended(flight.run, attempt)) is not None:
            self._wait(flight.run, pause)
            running = [other.run.run_id for other in self.flights.values()]
            self.retries.remaining([*running, *(waiting.run.run_id for waiting in self.todo)])

    def _last_words(self, run: RunSpec) -> str:
        """The last output of the worker of a run that died; empty if its node is gone."""
        if not self.head.answers:
            return ""
        try:
            host, process = run_logs.worker(run_logs.names(self.work.folder, run.run_id)[-1])
            node_id = next(node["NodeID"] for node in alive() if node["NodeManagerHostname"] == host)
            ref = ray.remote(last_words).options(num_cpus=0, scheduling_strategy=on_node(node_id)).remote(process)
            text: str = ray.get(ref, timeout=WORDS_SECONDS)
        except (IndexError, ValueError, StopIteration, UserError, RayError):  # nothing was logged, or the node has died
            return ""
        return text

    def _wait(self, run: RunSpec, pause: float = 0.0) -> None:
        """Let a run wait again, in its place by length: a retried run does not wait for shorter runs."""
        self.todo.append(PendingRun(run=run, since=time.monotonic() + pause))
        self.todo.sort(key=lambda waiting: grid.work_of(waiting.run), reverse=True)

    def _pack_less(self, flight: RunningTask, attempt: Attempt) -> None:
        """Halve the number of runs per GPU after its memory was full, also of the runs in Ray's queue."""
        fewer = flight.share.doubled()
        run_id = flight.run.run_id
        if fewer.gpus > self.share.gpus:
            self.share = fewer
            for ref, other in self.flights.items():
                if other.run.run_id not in self.started:
                    ray.cancel(ref, recursive=False)
        message = f"out of GPU memory ({attempt.why}): from now on each run takes {self.share.description()}"
        self.retries.on_progress(Progress(run_id=run_id, phase="waiting", message=message))
        self._wait(flight.run)

    def _end(self) -> None:
        """Ask every worker to stop and wait for the checkpoints; runs that have not begun are dropped.

        Without a head, only for runs that are known to have started: a worker that then starts waits for its code, and
        misses the stop request.
        """
        for ref in self.flights:
            ray.cancel(ref, recursive=False)
        until = time.monotonic() + END_SECONDS
        while time.monotonic() < until and any(
            self.head.answers or flight.run.run_id in self.started for flight in self.flights.values()
        ):
            with suppress(ClusterError):  # it was reported, or cannot be helped
                self._collect(WAKE_SECONDS)
                self.head.ask()

    def _take_messages(self) -> None:
        """Pass on the messages that are still on their way."""
        until = time.monotonic() + ray_tasks.LAST_SECONDS
        self._pass_on()
        while self._request and self.head.answers and time.monotonic() < until:
            self._pass_on()


def _outcome(ref: Any) -> Attempt:
    """The attempt of an ended task. ClusterError if its node cannot execute runs of the study."""
    try:
        attempt: Attempt = ray.get(ref)
        return attempt
    except TaskCancelledError:
        return Attempt(ending="stopped")
    except LocalRayletDiedError:
        raise ClusterError(
            "Ray has died on this machine, through which the command reaches the cluster: what is done and every "
            "checkpoint is kept; once Ray is there again, the same command continues"
        ) from None
    except RayTaskError as error:
        if isinstance(error.cause, ClusterError):
            raise error.cause from None
        return Attempt(why=dead(error), cause="error")
    except RayError as error:
        return Attempt(why=dead(error), cause="died")
