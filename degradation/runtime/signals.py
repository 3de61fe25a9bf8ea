"""SIGINT and SIGTERM -> a request that the work reads when it can stop cleanly, or an immediate stop."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from degradation.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether a signal asked to stop; ``status`` is its exit status, 0 before any."""

    def __init__(self, on_first_signal: Callable[[], None] = lambda: None) -> None:
        self.status, self._on_first_signal = 0, on_first_signal

    def __call__(self) -> bool:
        return self.status != 0

    def receive(self, number: int, _frame: Any = None) -> None:
        """The signal handler: SIGINT means 130, SIGTERM 143. The first one calls ``on_first_signal``."""
        first, self.status = not self.status, 128 + number
        if first:
            with suppress(RuntimeError):  # the signal interrupted a write to the same stream
                self._on_first_signal()


@contextmanager
def _handled_by(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Install the handler of both signals inside the block."""
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def stop_requests(on_first_signal: Callable[[], None] = lambda: None) -> Iterator[StopRequest]:
    """Collect SIGINT and SIGTERM inside the block; only the main thread can collect them.

    ``on_first_signal`` is called at the first signal. One that an enclosing block has received counts, too.
    """
    stop = StopRequest(on_first_signal)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    if around := _around():
        stop.status = around.status
    with _handled_by(stop.receive):
        yield stop


def _around() -> StopRequest | None:
    """The StopRequest of the enclosing block; None if there is none."""
    owner = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return owner if isinstance(owner, StopRequest) else None


class ImmediateStop(KeyboardInterrupt):
    """The exception of a signal that stops immediately.

    Not KeyboardInterrupt itself: if that passes through an ``exec`` of text, as in imports, CPython ends the process by
    SIGINT, whatever its exit status.
    """


class ImmediateStopHandler(StopRequest):
    """A request that stops immediately: the first signal ends the work, further ones are ignored until then."""

    def receive(self, number: int, _frame: Any = None) -> None:
        if not self.status:
            super().receive(number)
            raise ImmediateStop


@contextmanager
def interruptible() -> Iterator[None]:
    """Leave the block on SIGINT or SIGTERM, through every ``finally``, and raise Interrupted.

    For work without results to keep, but maybe with processes to end. Inside another such block it is a safeguard: an
    exception of a handler is lost if compiled code made the call, as pydantic's does, or in a ``__del__``.
    """
    if (around := _around()) or threading.current_thread() is not threading.main_thread():
        yield
        if around and around():
            raise Interrupted(around.status)
        return
    stop = ImmediateStopHandler()
    with _handled_by(stop.receive):
        try:
            with _silence_lost_exception(stop):
                yield
            if stop():
                raise ImmediateStop
        except BaseException as error:  # even if other code has changed it
            if stop():
                raise Interrupted(stop.status) from error
            raise


@contextmanager
def _silence_lost_exception(stop: ImmediateStopHandler) -> Iterator[None]:
    """Keep Python from printing the traceback of a lost exception: the stop follows a little later."""
    before = sys.unraisablehook

    def show(unraisable: Any) -> None:
        if not (stop() and issubclass(unraisable.exc_type, ImmediateStop)):
            before(unraisable)

    sys.unraisablehook = show
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextmanager
def signals_held() -> Iterator[None]:
    """Block SIGINT and SIGTERM in this thread and in processes started meanwhile, if the system can."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    # Python starts its resource tracker with the first spawned process; it unblocks both signals.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def release_signals() -> None:
    """Deliver the signals that were blocked when this process was started."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def pass_over_interrupts() -> None:
    """Ignore a SIGINT that is not collected: the process ends when its parent ends it.

    Not SIG_IGN: that would drop a signal that was blocked until now.
    """
    signal.signal(signal.SIGINT, lambda _number, _frame: None)
