"""Infinities and NaN at single steps -> whether a step was finite, and what was non-finite first in a measured one."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from degradation.probes import GRADIENTS
from degradation.probes.magnitudes import all_finite
from degradation.recording.uses import StepStats

What = Literal["input", "weight", "response", "gradient"]


@dataclass(frozen=True, kw_only=True)
class Place:
    """The first non-finite value of a measured step, in the order of the pass."""

    what: What
    layer: str
    step: int
    weights: int = 0
    """How many layers' weights were not finite."""

    def __str__(self) -> str:
        spread = f" (and those of {self.weights - 1} more)" if self.what == "weight" and self.weights > 1 else ""
        return f"the {self.what} of {self.layer}{spread}"


def first_place(step: int, names: Sequence[str], step_stats: StepStats, entry: str | None) -> Place | None:
    """The first non-finite value: in forward order the input, a weight, a response, else in backward order a gradient.

    ``entry`` is the layer that was called first, if its input was not finite. None if all is finite. If weights are
    not finite either, an earlier step broke them, and the input of a layer after an embedding need not be the data.
    """
    weights = ~np.isfinite(step_stats.gradients[:, GRADIENTS.columns.index("weight_norm")]) & step_stats.weighted
    if entry is not None and not weights.any():
        return Place(what="input", layer=entry, step=step)
    forward = weights | (step_stats.used & ~np.isfinite(step_stats.responses).all(axis=1) & step_stats.measured)
    if forward.any():
        first = int(forward.argmax())
        what: What = "weight" if weights[first] else "response"
        return Place(what=what, layer=names[first], step=step, weights=int(weights.sum()))
    of_weights, of_responses = (
        step_stats.gradients[:, GRADIENTS.columns.index(name)] for name in ("weight_grad_norm", "response_grad_norm")
    )
    backward = (step_stats.answered & ~np.isfinite(of_responses)) | (step_stats.reached & ~np.isfinite(of_weights))
    if not backward.any():
        return None
    return Place(what="gradient", layer=names[int(np.flatnonzero(backward)[-1])], step=step)


class NonfiniteMonitor:
    """A few numbers of every step -> whether it was finite, in step order, without waiting for the device."""

    def __init__(self, report: Callable[[int, bool, float, bool | None], None]) -> None:
        self._report = report
        self._waiting: deque[tuple[int, Tensor, Any, bool]] = deque()

    def add(self, step: int, numbers: Sequence[Tensor], scale: Tensor | None, loss: Tensor | None) -> None:
        """Add numbers that are finite if the step was, its GradScaler's factor, and whether the scaled loss was finite.

        When they arrive, ``report`` gets (step, finite, factor, whether the loss was finite or None without one).
        """
        results = on_device(numbers, scale, loss)
        ready = None
        if results.device.type != "cpu":
            device = results.device
            results = results.to("cpu", non_blocking=True)
            ready = torch.Event(device)
            ready.record()
        self._waiting.append((step, results, ready, loss is not None))
        self.look()

    def look(self, *, wait: bool = False) -> None:
        """Report the steps whose numbers have arrived; with ``wait`` all."""
        while self._waiting and (wait or self._waiting[0][2] is None or self._waiting[0][2].query()):
            step, numbers, ready, has_loss = self._waiting.popleft()
            if ready is not None:
                ready.synchronize()
            finite, factor, loss = numbers.tolist()
            self._report(step, bool(finite), factor, bool(loss) if has_loss else None)


def on_device(numbers: Sequence[Tensor], scale: Tensor | None, loss: Tensor | None) -> Tensor:
    """Whether the numbers are finite, the factor, and whether the loss is: (3,), on the numbers' device."""
    finite = all_finite(numbers)
    factor = torch.ones((), device=finite.device) if scale is None else scale
    parts = (finite, factor, finite if loss is None else loss)
    return torch.stack([part.to(finite.device, torch.float32).reshape(()) for part in parts])
