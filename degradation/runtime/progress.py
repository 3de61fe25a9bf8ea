"""Progress of a run: small frozen messages from the training to a callback."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Phase = Literal[
    "started", "train", "evaluate", "evaluating", "measure", "finished", "diverged", "failed", "waiting", "note"
]
LASTING: tuple[Phase, ...] = ("finished", "diverged", "failed")
"""Phases of a run that has ended."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One message of one run, or of the study if ``run_id`` is empty.

    ``loss`` and ``error`` are those of the last row, ``error`` a fraction; ``node`` is the machine that sends it, empty
    for this one; ``unit`` is what ``step`` and ``steps`` count: an experiment on a trained network has parts.
    """

    run_id: str
    phase: Phase
    step: int = 0
    steps: int = 0
    unit: str = "step"
    loss: float | None = None
    error: float | None = None
    images_per_second: float | None = None
    message: str = ""
    node: str = ""
    part: tuple[int, int] | None = None
    """Of a running evaluation: batches done, and all of them."""

    @property
    def position(self) -> str:
        """``step 100 of 700``; empty if the number of steps is unknown."""
        return f"{self.unit} {self.step:,} of {self.steps:,}" if self.steps else ""

    def last_row(self, percent: str = "%", digits: int = 4) -> list[str]:
        """``loss 2.0312`` and ``error 70.20%``; a missing value is omitted."""
        loss = [] if self.loss is None else [f"loss {self.loss:.{digits}f}"]
        return loss if self.error is None else [*loss, f"error {100 * self.error:.2f}{percent}"]


OnProgress = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """Discard progress messages."""


def line(progress: Progress, arm: str = "") -> str:
    """``12:34:56  plain-20-s0-1c2f9a7e  evaluate  step 100 of 700  loss 2.0312  error 70.20%``, with arm and node."""
    parts = [
        f"{time.strftime('%H:%M:%S')}  {progress.run_id or 'study'}",
        f"({arm})" if arm else "",
        progress.phase,
        progress.position,
        *progress.last_row(),
        f"{progress.images_per_second:,.0f} images/s" if progress.images_per_second else "",
        f"on {progress.node}" if progress.node else "",
        progress.message,
    ]
    return "  ".join(filter(None, parts))
