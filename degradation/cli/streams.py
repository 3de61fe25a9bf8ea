"""The standard streams of the command, so that one that is closed or cannot be written ends no study."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))
NARROWEST = 20
"""Columns of a terminal below which nothing can be shown."""


class Tolerant:
    """A stream of text whose failing writes are remembered, not raised; but for a reader that went away."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.lost: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """The text, as far as it can be written."""
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            raise
        except OSError as error:
            self.lost = error
            return len(text)

    def flush(self) -> None:
        """Hand on what was written, as far as that is possible."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            self.lost = error


@contextmanager
def tolerant_streams() -> Iterator[Tolerant]:
    """stdout and stderr made tolerant, closed streams opened on the null device; yields stdout."""
    _open_closed()
    _forget_no_width()
    before = sys.stdout, sys.stderr
    out, err = Tolerant(sys.stdout), Tolerant(sys.stderr)
    sys.stdout, sys.stderr = out, err  # all else that is asked of a stream they pass on
    try:
        yield out
    finally:
        sys.stdout, sys.stderr = before


def let_go(stream: TextIO | Tolerant) -> None:
    """Turn a stream that cannot be written to the null device: Python flushes it at exit, and would say so."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _open_closed() -> None:
    """Give each closed stream the null device: else the next file that is opened would take its place."""
    for number, (name, mode) in enumerate(STREAMS):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


def _forget_no_width() -> None:
    """Take no width from ``$COLUMNS`` that has room for nothing: tables would be printed as nothing."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns) < NARROWEST:
        del os.environ["COLUMNS"]
