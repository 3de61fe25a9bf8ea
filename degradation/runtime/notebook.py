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
"""At most so often a cell is drawn anew, but for the end of a run."""

SURE = 0.01
"""Before this share of the work is done, no time left is shown."""


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook."""
    return Console().is_jupyter


class NotebookProgress:
    """A report that shows a study's progress in the cell that runs it.

    The output is one, and every change replaces it: a notebook that is saved holds the last line alone. It needs no
    package besides the kernel's own.

    Parameters
    ----------
    runs
        The runs that are carried out, by their ids.
    """

    def __init__(self, runs: Mapping[str, RunSpec]) -> None:
        self._share, self._runs = StudyShare(runs), len(runs)
        self._lost: dict[str, str] = {}
        self._now = ""
        self._began = time.monotonic()
        self._drawn = -EVERY_SECONDS
        self._handle: Any = None

    def __call__(self, progress: Progress) -> None:
        """Take in a message, and draw the cell anew where it is time."""
        self._share.add(progress)
        lasting = progress.phase in LASTING
        if lasting and progress.phase != "finished":
            self._lost[progress.run_id] = progress.phase
        self._now = "" if lasting else _said(progress) or self._now
        seconds = time.monotonic() - self._began
        if lasting or progress.message or seconds - self._drawn >= EVERY_SECONDS:
            self._drawn = seconds
            self._draw()

    def _draw(self) -> None:
        if self._handle is None:
            from IPython.display import display

            self._handle = display(self, display_id=True)
        else:
            self._handle.update(self)

    def __repr__(self) -> str:
        lost = "; ".join(f"{run_id} {phase}" for run_id, phase in self._lost.items())
        counted = f"{self._share.ended} of {self._runs} runs done"
        return "; ".join(part for part in (f"{counted}{self._times()}", lost, self._now) if part)

    def _repr_html_(self) -> str:
        text = f"<div>{escape(repr(self))}</div>"
        if self._share.ended == self._runs:
            return text
        done = self._share.completed / self._share.whole if self._share.whole else 0.0
        return f'<progress style="width:100%" max="1" value="{done:.4f}"></progress>{text}'

    def _times(self) -> str:
        """How long it has taken, and about how long the rest takes at that speed."""
        seconds, share = time.monotonic() - self._began, self._share
        if share.ended == self._runs:
            return f" in {_clock(seconds)}"
        left = ""
        if share.gained >= SURE * share.whole:
            left = f", about {_clock(seconds * (share.whole - share.completed) / share.gained)} left"
        return f" after {_clock(seconds)}{left}"


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _said(progress: Progress) -> str:
    """``plain-20-s0-1c2f9a7e: step 100 of 200, loss 0.4120, error 12.50 %``, as far as it is known."""
    if progress.message:
        return f"{progress.run_id}: {progress.message}" if progress.run_id else progress.message
    if not progress.steps:
        return ""
    parts = [
        f"{progress.run_id}: {progress.unit} {progress.step:,} of {progress.steps:,}",
        f"loss {progress.loss:.4f}" if progress.loss is not None else "",
        f"error {100 * progress.error:.2f} %" if progress.error is not None else "",
    ]
    return ", ".join(part for part in parts if part)
