"""Functions -> medians of their times, taken in turns so that what else the machine does falls on all alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Seconds of a call: the median of ``calls``, the least and the greatest."""

    median: float
    least: float
    greatest: float
    calls: int


def alternate(works: Mapping[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, Timed]:
    """Call each once unmeasured, then all in turn, ``rounds`` times."""
    for work in works.values():
        _seconds(work, device)
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            taken[name].append(_seconds(work, device))
    return {
        name: Timed(median=statistics.median(all_), least=min(all_), greatest=max(all_), calls=rounds)
        for name, all_ in taken.items()
    }


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started
