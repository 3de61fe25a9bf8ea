"""Runs -> Ray tasks: which is submitted when, what becomes of it, and what is tried again on another node."""

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
WAKE_SECONDS = 0.2  # how soon a stop request is seen, and messages are shown
WORDS_SECONDS = 20.0  # in which a node says what a dead worker of it had printed
END_SECONDS = 60.0  # in which workers that are asked to stop write their checkpoints
AHEAD = 8  # tasks that wait in Ray in addition to the running ones, so that no node is idle
MESSAGES = {
    "WorkerCrashedError": "its worker process died",
    "NodeDiedError": "its node died",
    "OutOfMemoryError": "its node was out of memory and Ray ended it",
}


def dead(error: RayError) -> str:
    """Ray's message of several lines as one line."""
    lines = [text.strip() for text in str(error).splitlines() if text.strip()] or [type(error).__name__]
    return MESSAGES.get(type(error).__name__, lines[-1] if isinstance(error, RayTaskError) else lines[0])


@dataclass(frozen=True, kw_only=True)
class PendingRun:
    """A pending run, not to be started before a time of the monotonic clock."""

    run: RunSpec
    since: float = 0.0


@dataclass(frozen=True, kw_only=True)
class RunningTask:
    """A run that was handed to Ray, and the share that it was given."""

    run: RunSpec
    share: Share


class Dispatch:
    """Keeps the cluster busy with the longest runs that wait, and the books."""

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
        self._asked: Any = None  # for the messages, and not answered yet
        self._task = task(ray_tasks.attempt_run, share)

    def run_all(self, runs: Sequence[RunSpec]) -> None:
        """Until every run is done or has failed, or a stop is requested; then every worker writes its checkpoint.

        Raises ClusterError if the cluster is no more, or a node cannot take part; what has started has its checkpoint.
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
        """Whether the head answers; a message reports when it stops."""
        answered, answers = self.head.answers, self.head.ask()
        if answered and not answers:
            message = f"the head of the Ray cluster, {self.head.address}, does not answer: waiting for it"
            self.retries.on_progress(Progress(run_id="", phase="note", message=message))
        return answers

    def _submit(self) -> None:
        """Hand runs to Ray, the longest first, as far ahead as keeps every node busy."""
        now, slots = time.monotonic(), self._slots()
        limit = min(slots + AHEAD, self.work.options.jobs or slots + AHEAD)
        for waiting in [waiting for waiting in self.todo if waiting.since <= now][: max(0, limit - len(self.flights))]:
            self.todo.remove(waiting)
            self.started.discard(waiting.run.run_id)
            asked = self._task.options(scheduling_strategy=self._place(waiting.run), **self.share.ray_options())
            ref = self.head.answer(partial(asked.remote, *ray_tasks.packed(self.work, waiting.run), self.board))
            self.flights[ref] = RunningTask(run=waiting.run, share=self.share)

    def _place(self, run: RunSpec) -> Any:
        """Any node; for a run that has failed another than it has failed on, where there is one that can take it."""
        failed_on = self.failed_on.get(run.run_id, set())
        others = [
            node["NodeID"]
            for node in (alive() if failed_on else ())
            if node["NodeID"] not in failed_on and self.share.within([node["Resources"]])
        ]
        return on_node(random.choice(others), soft=True) if others else "SPREAD"

    def _slots(self) -> int:
        return self.share.within(resources())

    def _collect(self, timeout: float) -> None:
        """Pass on the messages, then enter ended runs."""
        if not self.flights:
            time.sleep(timeout)
            return
        flying = list(self.flights)
        if ray.wait(flying, timeout=timeout)[0]:
            ended, _ = ray.wait(flying, num_returns=len(flying), timeout=0)
        else:
            ended = []
        self._pass_on()
        for ref in ended:
            self._enter(self.flights.pop(ref), _outcome(ref))

    def _pass_on(self) -> None:
        """New messages, or none while the actor is being started."""
        self._asked = self._asked or self.board.take.remote()
        try:
            messages = ray.get(self._asked, timeout=WAKE_SECONDS)
        except GetTimeoutError:
            return
        except RayError:  # the board died and is started again; what was on it is lost
            messages = []
        self._asked = None
        for progress in messages:
            self.started.add(progress.run_id)
            self.retries.on_progress(progress)

    def _enter(self, flight: RunningTask, found: Attempt) -> None:
        if found.cause == "died":
            found = replace(found, traceback=self._last_words(flight.run))
        elif found.cause and found.node:
            self.failed_on.setdefault(flight.run.run_id, set()).add(found.node)
        if found.cause == "memory" and flight.share.gpus and flight.share.gpus < 1:
            self._pack_less(flight, found)
        elif (pause := self.retries.ended(flight.run, found)) is not None:
            self._wait(flight.run, pause)
            flying = [other.run.run_id for other in self.flights.values()]
            self.retries.left([*flying, *(waiting.run.run_id for waiting in self.todo)])

    def _last_words(self, run: RunSpec) -> str:
        """What the worker of a run printed before it died, if its node is still there."""
        if not self.head.answers:
            return ""
        try:
            host, process = run_logs.worker(run_logs.names(self.work.folder, run.run_id)[-1])
            there = next(node["NodeID"] for node in alive() if node["NodeManagerHostname"] == host)
            asked = ray.remote(last_words).options(num_cpus=0, scheduling_strategy=on_node(there)).remote(process)
            text: str = ray.get(asked, timeout=WORDS_SECONDS)
        except (IndexError, ValueError, StopIteration, UserError, RayError):  # nothing was logged, or the node has died
            return ""
        return text

    def _wait(self, run: RunSpec, pause: float = 0.0) -> None:
        """Back among those that wait: retried runs do not go behind shorter runs."""
        self.todo.append(PendingRun(run=run, since=time.monotonic() + pause))
        self.todo.sort(key=lambda waiting: grid.work_of(waiting.run), reverse=True)

    def _pack_less(self, flight: RunningTask, found: Attempt) -> None:
        """After the memory of a GPU was full: half as many runs on each from now on, those in Ray's queue too."""
        fewer = flight.share.doubled()
        run_id = flight.run.run_id
        if fewer.gpus > self.share.gpus:
            self.share = fewer
            for ref, other in self.flights.items():
                if other.run.run_id not in self.started:
                    ray.cancel(ref, recursive=False)
        message = f"out of GPU memory ({found.why}): from now on each run takes {self.share.description()}"
        self.retries.on_progress(Progress(run_id=run_id, phase="waiting", message=message))
        self._wait(flight.run)

    def _end(self) -> None:
        """Ask every worker to stop and wait for the checkpoints; what has not begun is forgotten.

        Without a head only of the runs known to have started: a worker that starts then waits for its code, and
        misses the stop request.
        """
        for ref in self.flights:
            ray.cancel(ref, recursive=False)
        until = time.monotonic() + END_SECONDS
        while time.monotonic() < until and any(
            self.head.answers or flight.run.run_id in self.started for flight in self.flights.values()
        ):
            with suppress(ClusterError):  # it was reported, or nothing can be done about it
                self._collect(WAKE_SECONDS)
                self.head.ask()

    def _take_messages(self) -> None:
        """The messages that are still on their way."""
        until = time.monotonic() + ray_tasks.LAST_SECONDS
        self._pass_on()
        while self._asked and self.head.answers and time.monotonic() < until:
            self._pass_on()


def _outcome(ref: Any) -> Attempt:
    """How a task ended. ClusterError if its node cannot take part in the study."""
    try:
        found: Attempt = ray.get(ref)
        return found
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
