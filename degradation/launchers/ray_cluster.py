"""A Ray cluster: started on this machine or joined, what its nodes have, and whether its head is still there."""

import logging
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

from degradation.errors import UserError
from degradation.launchers.ray_resources import Share
from degradation.launchers.watchdog import watch_over, watchdog
from degradation.launchers.worker_log import captured
from degradation.runtime.environment import Options, cores
from degradation.runtime.signals import stop_requests

try:
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError:
    raise UserError("--launcher ray needs Ray: pip install 'degradation[cluster]'") from None

REACH_SECONDS = 5.0
SILENT_SECONDS = 25.0  # without an answer of the head; Ray ends its own processes after 60
ANSWER_SECONDS = 2.0
ASK_SECONDS = 0.2  # between two questions whether the head answers
PATIENCE = ("RAY_gcs_rpc_server_reconnect_timeout_s", "3600")  # Ray ends a process that sees no head for longer
HTTP2_SETTINGS = 4  # the type of the frame
FAILURES = (RayError, OSError, RuntimeError, ValueError)  # of starting or joining Ray
STORE_BYTES = 80 * 2**20  # nothing but small messages passes through Ray's own object store
Answer = TypeVar("Answer")


class ClusterError(UserError):
    """What no further attempt can mend, whichever run it is of: the study ends with this line."""


def address_of(options: Options) -> str:
    """The address of the cluster, also from ``$RAY_ADDRESS``, which Ray sets for its jobs; else empty."""
    return options.address or os.environ.get("RAY_ADDRESS", "")


@contextmanager
def connected(options: Options) -> Iterator[None]:
    """Ray, joined at the address, else started on this machine with all it has and stopped at the end.

    UserError if it does not start, or no cluster answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = address_of(options)
    with nullcontext() if address else watchdog() as watch:
        try:
            with _signals_kept():
                if address:
                    _join(address, f"--address {address}" if options.address else f"$RAY_ADDRESS {address}")
                else:
                    _start_whole(watch)
            with _printing_nothing():
                yield
        finally:
            with captured():  # tasks that a signal left behind are mourned on stderr, below Python
                ray.shutdown()


@contextmanager
def _patient() -> Iterator[None]:
    """Join Ray so that it does not end this process in a line of its own a minute after the head died.

    `Head` reports it sooner, but may not be called for a while: a person is asked first, or a large study is read. Not
    where Ray is started here: what it starts would inherit the variable, and outlive the command by as much.
    """
    name, seconds = PATIENCE
    before = os.environ.get(name)
    os.environ[name] = before or seconds
    try:
        yield
    finally:
        if not before:
            del os.environ[name]


def _start_whole(watch: Any) -> None:
    """Start Ray to the end before a signal is obeyed: interrupted half-way, it would leave processes behind."""
    with stop_requests() as stop:
        _start()
        if watch:
            watch_over(watch, ray._private.worker._global_node)
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
        raise UserError(f"--launcher ray: Ray did not start on this machine: {_first_line(error)}") from None


def _join(address: str, named: str) -> None:
    """Become a driver of the cluster. UserError if none answers, or none has a node on this machine."""
    if address != "auto":
        _reach(address, named)
    try:
        with captured(), _patient():  # each attempt to connect is a line on stderr, written below Python
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except FAILURES as error:
        raise UserError(
            f"{named}: {_first_line(error)} (expected a cluster that this machine has joined by `ray start "
            f"--address`; where it asks for a token, RAY_AUTH_MODE=token)"
        ) from None


def _reach(address: str, named: str) -> None:
    """UserError, within seconds, if no Ray cluster answers: joining would retry for minutes."""
    try:
        with _connection(address, REACH_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS") != "1" and not _answers_grpc(connection):
                raise ConnectionError("something else than Ray does")
    except OSError as error:
        why = error.strerror or str(error)
        raise UserError(
            f"{named}: no Ray cluster answers there ({why}): `ray status` on its head node shows its address"
        ) from None


def _connection(address: str, timeout: float) -> socket.socket:
    """A connection to HOST:PORT or [HOST]:PORT; OSError if nothing takes it."""
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=timeout)


def _answers_grpc(connection: socket.socket) -> bool:
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


def alive() -> list[dict[str, Any]]:
    """The nodes that are alive, as Ray describes them."""
    described: Any = ray.nodes
    return [node for node in Head().answer(described) if node["Alive"]]


def resources() -> list[dict[str, float]]:
    """What each node that is alive has."""
    return [node["Resources"] for node in alive()]


def on_node(node_id: str, *, soft: bool = False) -> NodeAffinitySchedulingStrategy:
    """A task's place: this node, or any other once it is gone where that is ``soft``."""
    return NodeAffinitySchedulingStrategy(node_id, soft=soft)


def task(function: Callable[..., Any], share: Share) -> Any:
    """A function as a task that Ray does not retry.

    A worker that used a GPU ends with it: it would hold memory there.
    """
    return ray.remote(max_retries=0, max_calls=1 if share.gpus else 0)(function)


def gcs_address() -> str:
    """HOST:PORT of the head's server, which knows the nodes."""
    address: str = ray.get_runtime_context().gcs_address
    return address


class Head:
    """The head's server, asked by a bare connection: any question of Ray's own waits while it is gone.

    Nothing outlives it: Ray ends every process of the cluster a minute later.
    """

    def __init__(self) -> None:
        self.address = gcs_address()
        self._answered = time.monotonic()
        self.answers = True

    def ask(self) -> bool:
        """Whether it answers now. ClusterError if it has not for so long that it is gone."""
        now, self.answers = time.monotonic(), self._connects()
        if self.answers:
            self._answered = now
        elif now - self._answered > SILENT_SECONDS:
            raise ClusterError(
                f"the head of the Ray cluster, {self.address}, has not answered for {SILENT_SECONDS:.0f} seconds: what "
                f"is done and every checkpoint is kept; once a cluster is there, the same command continues"
            )
        return self.answers

    def answer(self, question: Callable[[], Answer]) -> Answer:
        """What Ray answers to a question that needs its head. ClusterError if that is gone.

        In a thread of its own: while Ray waits for its head it is deaf, to signals too.
        """
        answer: Future[Answer] = Future()

        def ask() -> None:
            try:
                answer.set_result(question())
            except BaseException as error:
                answer.set_exception(error)

        threading.Thread(target=ask, daemon=True).start()
        while not wait([answer], ASK_SECONDS).done:
            self.ask()
        return answer.result()

    def ended(self, tasks: Sequence[Any], seconds: float = math.inf) -> tuple[list[Any], list[Any]]:
        """The tasks that have ended once all have, or after so many seconds, and the others.

        ClusterError if the head is gone: a task that then begins finds neither its code nor an end.
        """
        until = time.monotonic() + seconds
        while True:
            found: tuple[list[Any], list[Any]] = ray.wait(list(tasks), num_returns=len(tasks), timeout=ASK_SECONDS)
            if not found[1] or time.monotonic() > until:
                return found
            self.ask()

    def _connects(self) -> bool:
        try:
            with _connection(self.address, ANSWER_SECONDS):
                return True
        except OSError:
            return False
