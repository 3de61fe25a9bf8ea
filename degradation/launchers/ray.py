"""Runs carried out as tasks of a Ray cluster: longest first, each on its share of a GPU or its cores, on any node."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from degradation.costs import Costs
from degradation.environment import Options, cores
from degradation.errors import UseError
from degradation.launchers.shares import Share, share_of
from degradation.launchers.transcript import captured
from degradation.launchers.work import Stop, Work
from degradation.processes import here
from degradation.progress import Progress, Report
from degradation.spec import RunSpec, StudySpec
from degradation.stopping import stop_requests

try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ImportError:
    raise UseError("--launcher ray needs Ray: pip install 'degradation[cluster]'") from None

from degradation.launchers import nodes
from degradation.launchers.dispatching import Dispatch, alive, dead

REACH_SECONDS = 5.0
HTTP2_SETTINGS = 4  # the type of the frame
FAILURES = (RayError, OSError, RuntimeError, ValueError)  # of starting or joining Ray
STORE_BYTES = 80 * 2**20  # nothing but small messages passes through Ray's own object store


# The cluster


@contextmanager
def ready(options: Options) -> Iterator[str]:
    """Ray, joined at the address, else started on this machine with all it has and stopped at the end.

    ``$RAY_ADDRESS``, which Ray sets for its own jobs, counts as an address. Raises UseError where no cluster answers.
    """
    if here().several:
        raise UseError("--launcher ray: torchrun's processes train one run together here: expected one of the two")
    if ray.is_initialized():
        yield ""
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = options.address or os.environ.get("RAY_ADDRESS")
    try:
        with _signals_kept():
            if address:
                _join(address)
            else:
                _start_whole()
                _fits(share_of(options, resources(), 1), options)  # before anything is timed
        with _printing_nothing():
            yield _sentence(address)
    finally:
        with captured():  # tasks that a signal left behind are mourned on stderr, below Python
            ray.shutdown()


def _start_whole() -> None:
    """Start Ray to the end before a signal is obeyed: interrupted half-way, it would leave processes behind."""
    with stop_requests() as stop:
        _start()
    if stop():
        signal.raise_signal(signal.Signals(stop.status - 128))


def _start() -> None:
    try:
        ray.init(
            address="local",
            num_cpus=cores(),
            object_store_memory=STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except FAILURES as error:
        raise UseError(f"--launcher ray: Ray did not start on this machine: {_first_line(error)}") from None


def _join(address: str) -> None:
    """Become a driver of the cluster. UseError where none answers, or none has a node on this machine."""
    if address != "auto":
        _reach(address)
    try:
        with captured():  # each attempt to connect is a line on stderr, written below Python
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except FAILURES as error:
        raise UseError(
            f"--address {address}: {_first_line(error)} (expected a cluster that this machine has joined by `ray start "
            f"--address`; where it asks for a token, RAY_AUTH_MODE=token)"
        ) from None


def _reach(address: str) -> None:
    """UseError, within seconds, where nothing answers as Ray does: joining would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS") != "1" and not _speaks_grpc(connection):
                raise ConnectionError("something else than Ray does")
    except OSError as error:
        why = error.strerror or str(error)
        raise UseError(
            f"--address {address}: no Ray cluster answers there ({why}): `ray status` on its head node says where it is"
        ) from None


def _speaks_grpc(connection: socket.socket) -> bool:
    """Whether the preface of HTTP/2 is answered by settings, as Ray's server does (RFC 9113, sections 3.4 and 6.5)."""
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, HTTP2_SETTINGS, 0, 0, 0, 0, 0]))
    answer = connection.recv(9)
    return len(answer) == 9 and answer[3] == HTTP2_SETTINGS


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Keep SIGTERM's handler, which Ray replaces by its own: that one ends the command before Ray has ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        with _left_out(ray._private.utils, "set_sigterm_handler"):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _printing_nothing() -> AbstractContextManager[None]:
    """Keep stdout for the command: Ray prints pages about a dead node there, in spite of ``log_to_driver=False``.

    It has no option against it (https://github.com/ray-project/ray/issues/28216). The lines of the runs say it.
    """
    return _left_out(ray._private.worker, "print_to_stdstream")


@contextmanager
def _left_out(module: Any, name: str) -> Iterator[None]:
    """A function of Ray's does nothing meanwhile, where this version of Ray has it."""
    before = getattr(module, name, None)
    setattr(module, name, lambda *_, **__: None)
    try:
        yield
    finally:
        if before is not None:
            setattr(module, name, before)


def _sentence(address: str | None) -> str:
    there = resources()
    gpus, cpus = (sum(node.get(name, 0) for node in there) for name in ("GPU", "CPU"))
    where = f"at {address}" if address else "started on this machine"
    return f"Ray {where}: nodes {len(there)}, GPUs {gpus:g}, cores {cpus:g}"


def resources() -> list[dict[str, float]]:
    """What each node that is alive has."""
    return [node["Resources"] for node in alive()]


# What is asked of it


def settled(options: Options, runs: int) -> Options:
    """One thread a run unless it is asked for or the study has begun with more; as many at a time as fit."""
    return replace(options, threads=options.threads or 1)


def check(study: StudySpec, options: Options) -> None:
    """Raise UseError where versions differ, or data or device are not on a node."""
    with ready(options):
        _asked(nodes.check, study, *_placed(options, 1))


def time_costs(study: StudySpec, options: Options) -> Costs:
    """Time steps on a node, since this machine need not have its device."""
    from degradation import plan

    runs = len(plan.runs(study))
    with ready(options):
        placed, share = _placed(options, runs)
        found: Costs = _asked(nodes.time_costs, study, replace(placed, jobs=1), share)
        at_a_time = min(runs, options.jobs or runs, share.within(resources()) or 1)
        return replace(found, jobs=at_a_time)


def _placed(options: Options, runs: int) -> tuple[Options, Share]:
    """The options as a node takes them, and the share of each run: a task is given CUDA or cores, and uses those."""
    options = settled(options, runs)
    share = share_of(options, resources(), runs)
    return replace(options, device="cuda" if share.gpus else "cpu", data_dir=_absolute(options.data_dir)), share


def _absolute(folder: Path | None) -> Path | None:
    return None if folder is None else folder.expanduser().absolute()


def _asked(task: Callable[..., Any], study: StudySpec, options: Options, share: Share) -> Any:
    _fits(share, options)
    try:
        return ray.get(ray.remote(task).options(**share.asked()).remote(*nodes.packed(study, options)))
    except RayTaskError as error:
        if isinstance(error.cause, UseError):
            raise error.cause from None
        raise UseError(dead(error)) from None
    except RayError as error:
        raise UseError(dead(error)) from None


def _fits(share: Share, options: Options) -> None:
    """UseError where Ray was started here and the machine cannot give a run its share; a cluster may yet grow."""
    if share.within(resources()) or options.address or os.environ.get("RAY_ADDRESS"):
        return
    raise UseError(
        f"each run takes {share.said()}, and Ray finds {cores()} core(s) and no such GPU here: expected less, by "
        "--threads, --gpus-per-run or --device"
    )


def launch(work: Work, runs: Sequence[RunSpec], report: Report, stop: Stop) -> dict[str, str]:
    """Carry out the runs on the cluster; returns the failed ones with their line.

    Ends early, with checkpoints, once ``stop()``. Raises UseError where a node cannot take part at all: another
    version of this package, or a root that it does not see.
    """
    if not work.folder.store.shared:
        raise UseError(f"{work.folder.path} lives in one process: expected a path or a URL that every node sees")
    with ready(work.options):
        options, share = _placed(work.options, len(runs))
        _fits(share, options)
        _say_what_is_shared(work.root, share, report)
        root = work.root if "://" in work.root else str(Path(work.root).absolute())
        dispatch = Dispatch(replace(work, root=root, options=options), share, report, stop)
        dispatch.carry_out(runs)
    return dispatch.books.failed


def _say_what_is_shared(root: str, share: Share, report: Report) -> None:
    hosts = {node["NodeManagerHostname"] for node in alive()}
    if len(hosts) > 1 and "://" not in root:
        message = f"{len(hosts)} hosts write to {root}: it must be the same folder on each (NFS)"
        report(Progress(run_id="", phase="note", message=message))
    at_a_time = share.within(resources())
    message = f"each run takes {share.said()}: {at_a_time or 'none yet'} at a time"
    report(Progress(run_id="", phase="note", message=message))


__all__ = ["check", "launch", "ready", "settled", "time_costs"]
