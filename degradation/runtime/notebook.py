"""Progress messages -> one bar with one line of text in a notebook's cell, replaced in place."""

import time
from collections.abc import Mapping
from datetime import timedelta
from html import escape
from typing import Any

from rich.console import Console

from degradation.runtime.progress import LASTING, Progress
from degradation.runtime.study_share import StudyShare
from degradation.spec import RunSpec

EVERY_SECONDS = 0.5
"""Least time between two updates of the cell, except at the end of a run."""

SURE = 0.01
"""Share of the work that must be done before the remaining time is shown."""


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook."""
    return Console().is_jupyter


class NotebookProgress:
    """A progress callback that shows a study's progress in the cell that runs it.

    Each update replaces the output, so a saved notebook holds only the last line. It needs only the kernel's own
    packages.

    Parameters
    ----------
    runs
        The runs to train, by id.
    """

    def __init__(self, runs: Mapping[str, RunSpec]) -> None:
        self._share, self._runs = StudyShare(runs), len(runs)
        self._unfinished: dict[str, str] = {}
        self._latest = ""
        self._start = time.monotonic()
        self._drawn_at = -EVERY_SECONDS
        self._handle: Any = None

    def __call__(self, progress: Progress) -> None:
        """Receive a message, and update the cell if it is time."""
        self._share.add(progress)
        ended = progress.phase in LASTING
        if ended and progress.phase != "finished":
            self._unfinished[progress.run_id] = progress.phase
        self._latest = "" if ended else _sentence(progress) or self._latest
        seconds = time.monotonic() - self._start
        if ended or progress.message or seconds - self._drawn_at >= EVERY_SECONDS:
            self._drawn_at = seconds
            self._draw()

    def _draw(self) -> None:
        if self._handle is None:
            from IPython.display import display

            self._handle = display(self, display_id=True)
        else:
            self._handle.update(self)

    def __repr__(self) -> str:
        unfinished = (f"{run_id} {phase}" for run_id, phase in self._unfinished.items())
        counted = f"{self._share.ended} of {self._runs} runs done{self._times()}"
        return "; ".join(filter(None, (counted, *unfinished, self._latest)))

    def _repr_html_(self) -> str:
        text = f"<div>{escape(repr(self))}</div>"
        if self._share.ended == self._runs:
            return text
        done = self._share.completed / self._share.whole if self._share.whole else 0.0
        return f'<progress style="width:100%" max="1" value="{done:.4f}"></progress>{text}'

    def _times(self) -> str:
        """The time so far, and the estimated remaining time at that speed."""
        seconds, share = time.monotonic() - self._start, self._share
        if share.ended == self._runs:
            return f" in {_clock(seconds)}"
        remaining = ""
        if share.gained >= SURE * share.whole:
            remaining = f", about {_clock(seconds * (share.whole - share.completed) / share.gained)} left"
        return f" after {_clock(seconds)}{remaining}"


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _sentence(progress: Progress) -> str:
    """``plain-20-s0-1c2f9a7e: step 100 of 200, loss 0.4120, error 12.50 %``; a missing value is omitted."""
    if not progress.message and not progress.steps:
        return ""
    text = progress.message or ", ".join((progress.position, *progress.last_row(" %")))
    return f"{progress.run_id}: {text}" if progress.run_id else text
