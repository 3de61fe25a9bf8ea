"""Tasks for the nodes of a Ray cluster: a run, the timing of steps, a check of data and device."""

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
from degradation.training import cost

LAST = ("finished", "diverged")
LAST_SECONDS = 10.0  # longest wait for the last message of a worker


def packed(*objects: object) -> tuple[str, bytes]:
    """The arguments of a task: this version of the package, which the node must have too, and the pickled objects."""
    return __version__, pickle.dumps(objects)


def _unpacked(version: str, payload: bytes) -> Any:
    """The objects of ``packed``. ClusterError if this node has another version of the package."""
    if version != __version__:
        raise ClusterError(
            f"node {socket.gethostname()} has degradation {__version__}, the command {version}: expected the same on "
            f"every node; install degradation=={version} there"
        )
    return pickle.loads(payload)


def attempt_run(version: str, payload: bytes, board: Any) -> Attempt:
    """Make one attempt at one run; it reports to the actor, and ends with a checkpoint when it is cancelled."""
    work, run = _unpacked(version, payload)
    node = socket.gethostname()

    def say(progress: Progress) -> None:
        sent = board.say.remote(replace(progress, node=node))
        if progress.phase in LAST:
            with suppress(ray.exceptions.RayError):  # the run is done, even if the message is lost
                ray.get(sent, timeout=LAST_SECONDS)

    with stop_requests() as stop:  # Ray cancels a task in a way that looks like SIGINT
        try:
            with _with_node_name(work.options):
                _check_root(work)
            attempt: Attempt = work.attempt(run, say, stop, captured)
        except ClusterError:
            raise
        except UserError as error:
            attempt = Attempt(why=str(error), cause="use")
        return replace(attempt, node=ray.get_runtime_context().get_node_id())


def _check_root(work: LaunchContext) -> None:
    """ClusterError if this node does not have the command's root, UserError if it cannot read it."""
    if work.folder.study() is None:
        raise ClusterError(
            f"no study {work.study} in {work.root}: a path must be the same folder on every node (NFS); else take "
            f"a URL such as --root s3://BUCKET/FOLDER"
        )


@contextmanager
def _with_node_name(options: Options) -> Iterator[None]:
    """Add the name of this node to errors if the cluster can have several machines."""
    try:
        yield
    except UserError as error:
        if not options.address:
            raise
        raise type(error)(f"node {socket.gethostname()}: {error}") from None


def check(version: str, payload: bytes) -> None:
    """UserError if this node lacks the root, the data or the device."""
    work, study = _unpacked(version, payload)
    with _with_node_name(work.options):
        _check_root(work)
        local.check(work, study)


def time_costs_on_node(version: str, payload: bytes) -> cost.Costs:
    """The costs of a step on this node."""
    study, options = _unpacked(version, payload)
    with _with_node_name(options):
        return cost.time_costs(study, options)
