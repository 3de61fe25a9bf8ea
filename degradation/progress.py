"""What a run says of itself while it works: small frozen messages that go from the work to whoever watches."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Phase = Literal["started", "train", "evaluate", "measure", "finished", "diverged", "failed", "waiting", "note"]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One message of one run. ``loss`` and ``error`` are those of the last row, ``error`` a fraction.

    ``unit`` is what is counted in ``step`` and ``steps``: an experiment on a trained network has parts.
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


Report = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """The report of nobody watching."""
