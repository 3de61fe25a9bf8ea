"""The standard streams of the command: a closed or failing stream does not stop a study."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))
NARROWEST = 20
"""Least usable width of a terminal, in columns."""


class Tolerant:
    """A text stream that records failed writes instead of raising; only a closed pipe raises."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.lost: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write the text; a failure is recorded."""
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            raise
        except OSError as error:
            self.lost = error
            return len(text)

    def flush(self) -> None:
        """Flush the stream; a failure is recorded."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            self.lost = error


@contextmanager
def tolerant_streams() -> Iterator[Tolerant]:
    """Make stdout and stderr tolerant, and open closed streams on the null device; yields stdout."""
    _open_closed()
    _forget_no_width()
    before = sys.stdout, sys.stderr
    out, err = Tolerant(sys.stdout), Tolerant(sys.stderr)
    sys.stdout, sys.stderr = out, err  # all other attributes are passed on
    try:
        yield out
    finally:
        sys.stdout, sys.stderr = before


def let_go(stream: TextIO | Tolerant) -> None:
    """Redirect a broken stream to the null device: Python flushes it at exit and would report an error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _open_closed() -> None:
    """Open the null device for each closed stream: otherwise the next opened file would get its number."""
    for number, (name, mode) in enumerate(STREAMS):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


def _forget_no_width() -> None:
    """Ignore a ``$COLUMNS`` that is too narrow: tables would be empty."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns) < NARROWEST:
        del os.environ["COLUMNS"]
