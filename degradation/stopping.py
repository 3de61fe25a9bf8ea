"""SIGINT and SIGTERM -> a request that the work reads when it can stop cleanly."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class StopRequest:
    """Whether a signal asked to stop; ``status`` is the exit status it means, 0 before any."""

    def __init__(self) -> None:
        self.status = 0

    def __call__(self) -> bool:
        return self.status != 0

    def receive(self, number: int, _frame: Any = None) -> None:
        """The signal handler: SIGINT means 130, SIGTERM 143."""
        self.status = 128 + number


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Collect SIGINT and SIGTERM as long as the block lasts; outside the main thread nothing can be collected."""
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop.receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
