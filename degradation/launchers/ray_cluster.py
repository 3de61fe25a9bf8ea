"""A Ray cluster: started on this machine or joined, the resources of its nodes, and whether its head answers."""

import logging
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, nullcontext
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
ASK_SECONDS = 0.2  # between two checks whether the head answers
PATIENCE = ("RAY_gcs_rpc_server_reconnect_timeout_s", "3600")  # Ray ends a process without a head for longer
HTTP2_SETTINGS = 4  # the type of the frame
FAILURES = (RayError, OSError, RuntimeError, ValueError)  # when Ray is started or joined
STORE_BYTES = 80 * 2**20  # only small messages pass through Ray's own object store
Answer = TypeVar("Answer")


class ClusterError(UserError):
    """An error that no further attempt at any run can fix: the study ends with this line."""


def address_of(options: Options) -> str:
    """The address of the cluster, if necessary from ``$RAY_ADDRESS``, which Ray sets for its jobs; else empty."""
    return options.address or os.environ.get("RAY_ADDRESS", "")


@contextmanager
def connected(options: Options) -> Iterator[None]:
    """Join Ray at the address, or start it on this machine with all its resources and stop it at the end.

    UserError if it does not start, or no cluster answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = address_of(options)
    with nullcontext() if address else watchdog() as watch:
        try:
            with _keep_signal_handler():
                if address:
                    _join(address, f"--address {address}" if options.address else f"$RAY_ADDRESS {address}")
                else:
                    _start_whole(watch)
            # Keep stdout for the command: Ray prints pages about a dead node there, in spite of log_to_driver=False,
            # and has no option against it (https://github.com/ray-project/ray/issues/28216). Runs report a dead node.
            with _disabled(ray._private.worker, "print_to_stdstream"):
                yield
        finally:
            with captured():  # Ray reports interrupted tasks on stderr, below Python
                ray.shutdown()


@contextmanager
def _patient() -> Iterator[None]:
    """Keep Ray, joined inside the block, from ending this process a minute after the head died.

    `Head` reports this sooner, but may not be called for a while: the user is asked first, or a large study is read.
    Not for a Ray that is started here: its processes would inherit the variable, and outlive the command as long.
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
    """Start Ray completely before a signal takes effect: an interrupted start would leave processes behind."""
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
    """Become a driver of the cluster. UserError if no cluster answers, or it has no node on this machine."""
    if address != "auto":
        _reach(address, named)
    try:
        with captured(), _patient():  # Ray prints each attempt to connect on stderr, below Python
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except FAILURES as error:
        raise UserError(
            f"{named}: {_first_line(error)} (expected a cluster that this machine has joined by `ray start "
            f"--address`; where it asks for a token, RAY_AUTH_MODE=token)"
        ) from None


def _reach(address: str, named: str) -> None:
    """UserError within seconds if no Ray cluster answers: joining would retry for minutes."""
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
    """A connection to HOST:PORT or [HOST]:PORT; OSError if it is refused."""
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=timeout)


def _answers_grpc(connection: socket.socket) -> bool:
    """Whether the answer to the preface of HTTP/2 is settings, as from Ray (RFC 9113, sections 3.4 and 6.5)."""
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, HTTP2_SETTINGS, 0, 0, 0, 0, 0]))
    answer = connection.recv(9)
    return len(answer) == 9 and answer[3] == HTTP2_SETTINGS


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def _keep_signal_handler() -> Iterator[None]:
    """Keep the handler of SIGTERM: Ray's own would end the command before Ray has ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        with _disabled(ray._private.utils, "set_sigterm_handler"):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _disabled(module: Any, name: str) -> Iterator[None]:
    """Replace a function of Ray by one that does nothing, inside the block."""
    before = getattr(module, name, None)
    setattr(module, name, lambda *_, **__: None)
    try:
        yield
    finally:
        if before is not None:
            setattr(module, name, before)


def alive() -> list[dict[str, Any]]:
    """The nodes that are alive, in Ray's description."""
    described: Any = ray.nodes
    return [node for node in Head().answer(described) if node["Alive"]]


def resources() -> list[dict[str, float]]:
    """The resources of each node that is alive."""
    return [node["Resources"] for node in alive()]


def on_node(node_id: str, *, soft: bool = False) -> NodeAffinitySchedulingStrategy:
    """The scheduling strategy for one node; with ``soft``, for any other if it is gone."""
    return NodeAffinitySchedulingStrategy(node_id, soft=soft)


def task(function: Callable[..., Any], share: Share) -> Any:
    """A function as a task that Ray does not retry.

    A worker that used a GPU ends with its task: otherwise it would hold GPU memory.
    """
    return ray.remote(max_retries=0, max_calls=1 if share.gpus else 0)(function)


def gcs_address() -> str:
    """HOST:PORT of the head's server."""
    address: str = ray.get_runtime_context().gcs_address
    return address


class Head:
    """The head's server, checked by a plain connection: any call of Ray waits while the head is gone.

    Without a head, Ray ends every process of the cluster after a minute.
    """

    def __init__(self) -> None:
        self.address = gcs_address()
        self._answered = time.monotonic()
        self.answers = True

    def ask(self) -> bool:
        """Whether the head answers now. ClusterError if it has not answered for too long."""
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
        """The result of a call that needs Ray's head. ClusterError if the head is gone.

        It is made in a separate thread: a call that waits for the head does not react to signals.
        """
        answer: Future[Answer] = Future()

        def ask() -> None:
            try:
                answer.set_result(question())
            except BaseException as error:
                answer.set_exception(error)

        call = threading.Thread(target=ask, daemon=True)
        try:
            call.start()
            while not wait([answer], ASK_SECONDS).done:
                self.ask()
        except KeyboardInterrupt:
            self._let_end(call)
            raise
        return answer.result()

    def _let_end(self, call: threading.Thread) -> None:
        """Wait for a call until it ends, while the head answers: Ray ends a process that is in a call at its shutdown.

        It would end it with status 1 and without a word on what was interrupted.
        """
        until = time.monotonic() + SILENT_SECONDS
        while call.is_alive() and time.monotonic() < until and self._connects():
            call.join(ASK_SECONDS)

    def ended(self, tasks: Sequence[Any], seconds: float = math.inf) -> tuple[list[Any], list[Any]]:
        """Wait for the tasks, at most so many seconds; returns those that ended, and the others.

        ClusterError if the head is gone: a task that then begins cannot load its code and never ends.
        """
        until = time.monotonic() + seconds
        while True:
            done: list[Any]
            done, running = ray.wait(list(tasks), num_returns=len(tasks), timeout=ASK_SECONDS)
            if not running or time.monotonic() > until:
                return done, running
            self.ask()

    def _connects(self) -> bool:
        try:
            with _connection(self.address, ANSWER_SECONDS):
                return True
        except OSError:
            return False
