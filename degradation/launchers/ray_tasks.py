"""Tasks of the nodes of a Ray cluster: a run, the timing of steps, a check of data and device."""

import pickle
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import ray

from degradation._version import __version__
from degradation.errors import UserError
from degradation.launchers import local
from degradation.launchers.attempts import Attempt, LaunchContext
from degradation.launchers.ray_cluster import ClusterError
from degradation.launchers.worker_log import captured
from degradation.runtime.environment import Options
from degradation.runtime.progress import Progress
from degradation.runtime.signals import stop_requests
from degradation.spec import RunSpec
from degradation.training import cost

LAST = ("finished", "diverged")
LAST_SECONDS = 10.0  # a worker's last message is waited for so long


def packed(*what: object) -> tuple[str, bytes]:
    """What is sent to a node, behind the version that it must have to read it."""
    return __version__, pickle.dumps(what)


def _unpacked(version: str, payload: bytes) -> Any:
    """What was sent. ClusterError if this node has another version of the package, which may read it differently."""
    if version != __version__:
        raise ClusterError(
            f"node {socket.gethostname()} has degradation {__version__}, the command {version}: expected the same on "
            f"every node; install degradation=={version} there"
        )
    return pickle.loads(payload)


def attempt_run(version: str, payload: bytes, board: Any) -> Attempt:
    """One attempt at one run; it reports to the actor, and ends with a checkpoint when it is cancelled."""
    work, run = _unpacked(version, payload)
    with stop_requests() as stop:  # Ray cancels a task by what looks like SIGINT to it
        return _attempt(work, run, board, stop)


def _attempt(work: LaunchContext, run: RunSpec, board: Any, stop: Any) -> Attempt:
    node = socket.gethostname()

    def say(progress: Progress) -> None:
        sent = board.say.remote(replace(progress, node=node))
        if progress.phase in LAST:
            with suppress(ray.exceptions.RayError):  # the run is done, even if the message is lost
                ray.get(sent, timeout=LAST_SECONDS)

    try:
        with _named(work.options):
            _see(work)
        found = work.attempt(run, say, stop, captured)
    except ClusterError:
        raise
    except UserError as error:
        found = Attempt(why=str(error), cause="use")
    return replace(found, node=ray.get_runtime_context().get_node_id())


def _see(work: LaunchContext) -> None:
    """ClusterError if this node sees another root than the command, UserError if it cannot read it."""
    if work.folder.study() is None:
        raise ClusterError(
            f"no study {work.study} in {work.root}: a path must be the same folder on every node (NFS); else take "
            f"a URL such as --root s3://BUCKET/FOLDER"
        )


@contextmanager
def _named(options: Options) -> Iterator[None]:
    """Errors of this node, with its name if the cluster has other machines than that of the command."""
    try:
        yield
    except UserError as error:
        if not options.address:
            raise
        raise type(error)(f"node {socket.gethostname()}: {error}") from None


def check(version: str, payload: bytes) -> None:
    """UserError if this node does not see the root, or has not the data or the device."""
    work, study = _unpacked(version, payload)
    with _named(work.options):
        _see(work)
        local.check(work, study)


def time_costs_on_node(version: str, payload: bytes) -> cost.Costs:
    """What a step costs on this node."""
    study, options = _unpacked(version, payload)
    with _named(options):
        return cost.time_costs(study, options)
