"""An attempt at a run -> its log: start, node, rows, warnings, what the process printed, and how it ended."""

import faulthandler
import math
import os
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import torch

from degradation._version import __version__
from degradation.errors import UserError
from degradation.runtime.environment import Options
from degradation.runtime.progress import Progress, line
from degradation.spec import RunSpec
from degradation.store import StudyFolder, Url
from degradation.study import run_logs

MOST_CHARACTERS = 1 << 20  # of one attempt: each flush writes it whole
LAST_CHARACTERS = 1 << 14  # of what a worker that died had printed
FLUSH_SECONDS = 1.0  # between two flushes to a disk; a store behind a URL takes one with each checkpoint

CapturedOutput = Callable[[], str]
CaptureOutput = Callable[[], AbstractContextManager[CapturedOutput]]


class Transcript:
    """Writes the log of one attempt: at its start, as it goes on, and at its end.

    An attempt that says nothing, because another process holds the run, leaves none. A log that cannot be written
    fails no run.
    """

    def __init__(self, folder: StudyFolder, run: RunSpec, options: Options, captured_output: CapturedOutput) -> None:
        self.folder, self.run_id, self.options, self.captured_output = folder, run.run_id, options, captured_output
        self.attempt = run_logs.attempt_name()
        self.text = ""
        self.pause = options.checkpoint_seconds
        if not isinstance(folder.path, Url):
            self.pause = min(self.pause, FLUSH_SECONDS)
        self._row: tuple[float | None, float | None] = (None, None)
        self._written = -math.inf

    def __call__(self, progress: Progress) -> None:
        """Take a message in: each but those of training steps without a new row."""
        row = (progress.loss, progress.error)
        if progress.phase not in ("train", "evaluating", "measure") or row != self._row:
            self._add(line(progress))
        self._row = row
        # Not of a note: it may be the store's own, that it cannot be reached, during a write.
        if progress.phase != "note" and time.monotonic() - self._written >= self.pause:
            self._flush()

    def close(self, ending: str, why: str) -> None:
        """Log how the attempt ended; ``why`` is its traceback or one line."""
        if self.text or why:
            self._add(f"{time.strftime('%H:%M:%S')}  {ending}" + (f"\n{why}" if why else ""))
            self._flush()

    def _add(self, message: str) -> None:
        self.text = _shortened(f"{self.text or self._head()}{self._printed()}{message.rstrip()}\n")

    def _printed(self) -> str:
        """What the process printed since, indented."""
        return indented(self.captured_output())

    def _head(self) -> str:
        now, zone = time.strftime("%Y-%m-%d %H:%M:%S"), time.strftime("%Z")
        return (
            f"{self.run_id} of study {self.folder.name}, {now} {zone}\n"
            f"node {socket.gethostname()}, process {os.getpid()}, launcher {self.options.launcher}, "
            f"degradation {__version__}, torch {torch.__version__}, Python {sys.version.split()[0]}\n"
        )

    def _flush(self) -> None:
        self.text = _shortened(self.text + self._printed())
        with suppress(UserError, OSError):
            run_logs.write(self.folder, self.run_id, self.attempt, self.text)
        self._written = time.monotonic()


def indented(printed: str) -> str:
    """The output of a process, as shown in a log."""
    return "".join(f"    {text}\n" for text in printed.splitlines() if text.strip())


def _shortened(text: str) -> str:
    """The text, its middle left out where it is longer than a log may be."""
    if len(text) <= MOST_CHARACTERS:
        return text
    part = MOST_CHARACTERS // 4
    return f"{text[:part]}\n... {len(text) - 3 * part:,} characters are left out here ...\n{text[-2 * part :]}"


@contextmanager
def captured_warnings() -> Iterator[CapturedOutput]:
    """The warnings of this process, which are shown as before: what it prints belongs to its terminal."""
    lines: list[str] = []
    shown = warnings.showwarning

    def show(message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
        lines.append(warnings.formatwarning(message, category, filename, lineno, line))
        shown(message, category, filename, lineno, file, line)

    warnings.showwarning = show
    try:
        yield lambda: "".join(lines.pop(0) for _ in range(len(lines)))
    finally:
        warnings.showwarning = shown


@contextmanager
def captured() -> Iterator[CapturedOutput]:
    """All that a worker process prints, libraries below Python included; none of it goes anywhere else.

    A process that dies leaves it to `last_words`, with the traceback of what killed it where that was a fault.
    """
    streams: tuple[TextIO, TextIO] = (sys.stdout, sys.stderr)
    with tempfile.NamedTemporaryFile(prefix=_prefix(os.getpid())) as file:
        kept = [(number, os.dup(number)) for number in (1, 2)]
        read = 0

        def captured_output() -> str:
            nonlocal read
            _flush(streams)
            data = os.pread(file.fileno(), MOST_CHARACTERS, read)
            read = os.fstat(file.fileno()).st_size
            return data.decode(errors="replace")

        _flush(streams)
        for number, _ in kept:
            os.dup2(file.fileno(), number)
        faulthandler.enable(file=2)
        try:
            yield captured_output
        finally:
            _flush(streams)
            for number, before in kept:
                os.dup2(before, number)
                os.close(before)


def last_words(process: int) -> str:
    """What a process of this machine that died while it was `captured` had printed, its end; deletes it."""
    text = ""
    for file in Path(tempfile.gettempdir()).glob(f"{_prefix(process)}*"):
        with suppress(OSError):
            text += file.read_bytes()[-LAST_CHARACTERS:].decode(errors="replace")
            file.unlink()
    return text


def _prefix(process: int) -> str:
    return f"degradation-{process}-"


def _flush(streams: tuple[TextIO, TextIO]) -> None:
    for stream in streams:
        with suppress(OSError, ValueError, AttributeError):  # closed, or none at all in a process without a terminal
            stream.flush()
