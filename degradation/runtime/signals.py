"""SIGINT and SIGTERM -> a request that the work reads when it can stop cleanly, or an end at once."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from degradation.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether a signal asked to stop; ``status`` is the exit status it means, 0 before any."""

    def __init__(self, heard: Callable[[], None] = lambda: None) -> None:
        self.status, self._heard = 0, heard

    def __call__(self) -> bool:
        return self.status != 0

    def receive(self, number: int, _frame: Any = None) -> None:
        """The signal handler: SIGINT means 130, SIGTERM 143. The first is said to have been heard."""
        first, self.status = not self.status, 128 + number
        if first:
            with suppress(RuntimeError):  # the signal came in the midst of a write to the same stream
                self._heard()


@contextmanager
def stop_requests(heard: Callable[[], None] = lambda: None) -> Iterator[StopRequest]:
    """Collect SIGINT and SIGTERM as long as the block lasts; outside the main thread nothing can be collected.

    ``heard`` is called at the first. One that came in a block around this one, and has not ended it, counts.
    """
    stop = StopRequest(heard)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    if around := _around():
        stop.status = around.status
    before = {number: signal.signal(number, stop.receive) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _around() -> StopRequest | None:
    """Who takes the signals now, if it is one of these."""
    taker = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return taker if isinstance(taker, StopRequest) else None


class ImmediateStop(KeyboardInterrupt):
    """The exception of a signal that is obeyed at once.

    Not KeyboardInterrupt itself: where that passes through an ``exec`` of text, as imports have it, CPython ends the
    process by SIGINT whatever status it exits with.
    """


class Leaving(StopRequest):
    """A request that is obeyed at once: the first signal ends what is under way, further ones wait for what it ends."""

    def receive(self, number: int, _frame: Any = None) -> None:
        if not self.status:
            super().receive(number)
            raise ImmediateStop


@contextmanager
def interruptible() -> Iterator[None]:
    """Leave the block on SIGINT or SIGTERM, through every ``finally`` on the way, and raise Interrupted.

    For work that has nothing to keep, and may have processes to end. Within another such block it only makes sure: an
    exception that a handler raises is lost where compiled code called back, as pydantic's does, or in a ``__del__``.
    """
    if (around := _around()) or threading.current_thread() is not threading.main_thread():
        yield
        if around and around():
            raise Interrupted(around.status)
        return
    leaving = Leaving()
    before = {number: signal.signal(number, leaving.receive) for number in SIGNALS}
    try:
        with _unsaid_if_lost(leaving):
            yield
        if leaving():
            raise ImmediateStop
    except BaseException as error:  # whatever others made of it
        if leaving():
            raise Interrupted(leaving.status) from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _unsaid_if_lost(leaving: Leaving) -> Iterator[None]:
    """Keep Python from printing a traceback of the exception where it is lost: it is obeyed a little later."""
    before = sys.unraisablehook

    def say(lost: Any) -> None:
        if not (leaving() and issubclass(lost.exc_type, ImmediateStop)):
            before(lost)

    sys.unraisablehook = say
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextmanager
def signals_held() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back in this thread and in processes started meanwhile, where the system can."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    # It comes with the first process that is spawned, and lets both signals through, whoever holds them back.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def release_signals() -> None:
    """Deliver the signals that were held back when this process was started."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def pass_over_interrupts() -> None:
    """Let a SIGINT that nobody collects change nothing: the process ends for another reason, as its starter says.

    Not SIG_IGN: that drops one which was held back until now.
    """
    signal.signal(signal.SIGINT, lambda _number, _frame: None)
