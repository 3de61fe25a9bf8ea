"""An attempt at a run -> its log: start, node, rows, warnings, the output of the process, and how it ended."""

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

MOST_CHARACTERS = 1 << 20  # of the log of an attempt, which each flush writes completely
LAST_CHARACTERS = 1 << 14  # of the last output of a worker that died
FLUSH_SECONDS = 1.0  # between two flushes to a disk; to a URL, there is one flush per checkpoint

CapturedOutput = Callable[[], str]
CaptureOutput = Callable[[], AbstractContextManager[CapturedOutput]]


class Transcript:
    """Writes the log of one attempt: at its start, during the run, and at its end.

    An attempt without messages, because another process holds the run, has no log. A log that cannot be written
    does not fail the run.
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
        """Log a message, except those of training steps without a new row."""
        row = (progress.loss, progress.error)
        if progress.phase not in ("train", "evaluating", "measure") or row != self._row:
            self._add(line(progress))
        self._row = row
        # Not after a note: it may come from the store during a write, if the store cannot be reached.
        if progress.phase != "note" and time.monotonic() - self._written >= self.pause:
            self._flush()

    def close(self, ending: str, why: str) -> None:
        """Log how the attempt ended; ``why`` is its traceback or one line."""
        if self.text or why:
            self._add(f"{time.strftime('%H:%M:%S')}  {ending}" + (f"\n{why}" if why else ""))
            self._flush()

    def _add(self, message: str) -> None:
        head, output = self.text or self._head(), indented(self.captured_output())
        self.text = _shortened(f"{head}{output}{message.rstrip()}\n")

    def _head(self) -> str:
        now, zone = time.strftime("%Y-%m-%d %H:%M:%S"), time.strftime("%Z")
        return (
            f"{self.run_id} of study {self.folder.name}, {now} {zone}\n"
            f"node {socket.gethostname()}, process {os.getpid()}, launcher {self.options.launcher}, "
            f"degradation {__version__}, torch {torch.__version__}, Python {sys.version.split()[0]}\n"
        )

    def _flush(self) -> None:
        self.text = _shortened(self.text + indented(self.captured_output()))
        with suppress(UserError, OSError):
            run_logs.write(self.folder, self.run_id, self.attempt, self.text)
        self._written = time.monotonic()


def indented(printed: str) -> str:
    """The output of a process, as shown in a log."""
    return "".join(f"    {text}\n" for text in printed.splitlines() if text.strip())


def _shortened(text: str) -> str:
    """The text, without its middle if it is too long for a log."""
    if len(text) <= MOST_CHARACTERS:
        return text
    part = MOST_CHARACTERS // 4
    return f"{text[:part]}\n... {len(text) - 3 * part:,} characters are left out here ...\n{text[-2 * part :]}"


@contextmanager
def captured_warnings() -> Iterator[CapturedOutput]:
    """Capture the warnings of this process; they are still shown, and other output stays on its terminal."""
    lines: list[str] = []
    original = warnings.showwarning

    def show(message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
        lines.append(warnings.formatwarning(message, category, filename, lineno, line))
        original(message, category, filename, lineno, file, line)

    warnings.showwarning = show
    try:
        yield lambda: "".join(lines.pop(0) for _ in range(len(lines)))
    finally:
        warnings.showwarning = original


@contextmanager
def captured() -> Iterator[CapturedOutput]:
    """Capture all output of a worker process, also of libraries below Python; it is printed nowhere else.

    `last_words` reads the output of a process that died, with the traceback of a fatal fault.
    """
    streams: tuple[TextIO, TextIO] = (sys.stdout, sys.stderr)
    with tempfile.NamedTemporaryFile(prefix=_prefix(os.getpid())) as file:
        originals = [(number, os.dup(number)) for number in (1, 2)]
        position = 0

        def captured_output() -> str:
            nonlocal position
            _flush(streams)
            data = os.pread(file.fileno(), MOST_CHARACTERS, position)
            position = os.fstat(file.fileno()).st_size
            return data.decode(errors="replace")

        _flush(streams)
        for number, _ in originals:
            os.dup2(file.fileno(), number)
        faulthandler.enable(file=2)
        try:
            yield captured_output
        finally:
            _flush(streams)
            for number, original in originals:
                os.dup2(original, number)
                os.close(original)


def last_words(process: int) -> str:
    """The last output of a process of this machine that died inside `captured`; its file is deleted."""
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
