"""Infinities and NaN at single steps -> when a network was not finite, where it began, which steps were skipped."""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from degradation.probes import GRADIENTS
from degradation.recording.listening import Heard

NAMED = 3  # spans that are told one by one
What = Literal["input", "weight", "response", "gradient"]


@dataclass(frozen=True, kw_only=True)
class Place:
    """The first in the order of the pass that was not finite at a measured step."""

    what: What
    layer: str
    step: int
    weights: int = 0
    """How many layers' weights were not finite."""

    def __str__(self) -> str:
        spread = f" (and those of {self.weights - 1} more)" if self.what == "weight" and self.weights > 1 else ""
        return f"the {self.what} of {self.layer}{spread}"


@dataclass(kw_only=True)
class Span:
    """Consecutive steps that were not finite, as far as is known."""

    first: int
    last: int
    place: Place | None = None
    skipped: int = 0
    """How many steps a GradScaler skipped, from the first to the last."""
    factor: float = math.inf
    """What its factor came to."""
    hidden: bool = False
    """Whether measured steps alone show it: between them it is not known."""
    again: int | None = None
    """The step that was found finite again."""

    @property
    def overflowed(self) -> bool:
        """Whether scaled gradients that were too large explain it: each step skipped, and nothing against it.

        Infinity or NaN in the forward pass does not come from the scale, nor what is left at a factor below 1.
        """
        forward = self.place is not None and self.place.what != "gradient"
        return self.skipped > self.last - self.first and not forward and self.factor >= 1


def first_place(step: int, names: Sequence[str], heard: Heard, entry: str | None) -> Place | None:
    """What was not finite first: in forward order the input, a weight or a response, else in backward order a gradient.

    ``entry`` is the layer that was called first where its input was not finite. None where all is finite.
    """
    weights = ~np.isfinite(heard.gradients[:, GRADIENTS.columns.index("weight_norm")]) & heard.weighted
    if entry is not None:
        return Place(what="input", layer=entry, step=step)
    forward = weights | (heard.used & ~np.isfinite(heard.responses).all(axis=1) & heard.measured)
    if forward.any():
        first = int(forward.argmax())
        what: What = "weight" if weights[first] else "response"
        return Place(what=what, layer=names[first], step=step, weights=int(weights.sum()))
    of_weights, of_responses = (
        heard.gradients[:, GRADIENTS.columns.index(name)] for name in ("weight_grad_norm", "response_grad_norm")
    )
    backward = (heard.answered & ~np.isfinite(of_responses)) | (heard.reached & ~np.isfinite(of_weights))
    if not backward.any():
        return None
    return Place(what="gradient", layer=names[int(np.flatnonzero(backward)[-1])], step=step)


class Watch:
    """A few sums of every step -> whether it was finite, in the order of the steps and without waiting for a device."""

    def __init__(self, tell: Callable[[int, bool, float], None]) -> None:
        self._tell = tell
        self._waiting: deque[tuple[int, Tensor, Any]] = deque()

    def add(self, step: int, sums: Sequence[Tensor], scale: Tensor | None) -> None:
        """The sums of a step and its GradScaler's factor; ``tell`` gets (step, finite, factor) when they are here."""
        device = max((tensor.device for tensor in sums), key=lambda place: place.type != "cpu", default=None)
        total = torch.stack([tensor.to(device) for tensor in sums]).sum() if sums else torch.zeros(())
        factor = torch.ones_like(total) if scale is None else scale.to(total.device, torch.float32).reshape(())
        both, ready = torch.stack([total, factor]), None
        if both.device.type != "cpu":
            both = both.to("cpu", non_blocking=True)
            ready = torch.Event(total.device)
            ready.record()
        self._waiting.append((step, both, ready))
        self.look()

    def look(self, *, wait: bool = False) -> None:
        """Tell what has arrived; with ``wait`` everything."""
        while self._waiting and (wait or self._waiting[0][2] is None or self._waiting[0][2].query()):
            step, both, ready = self._waiting.popleft()
            if ready is not None:
                ready.synchronize()
            total, factor = both.tolist()
            self._tell(step, math.isfinite(total), factor)


class Log:
    """When the network was not finite."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._factor = 1.0

    def add(self, step: int, finite: bool, factor: float, *, measured: bool) -> bool:
        """The next step and the factor of its GradScaler; returns whether a span of steps begins with it."""
        self.follow(step, factor)
        span = self._open
        if finite:
            if span is not None and (measured or not span.hidden):
                span.again = step
            return False
        if span is not None:
            span.last = step
            return False
        self.spans.append(Span(first=step, last=step))
        return True

    @property
    def _open(self) -> Span | None:
        """The span that has not ended yet."""
        return self.spans[-1] if self.spans and self.spans[-1].again is None else None

    def follow(self, step: int, factor: float) -> None:
        """The factor after the step before ``step``: a GradScaler lowers it when it has skipped that step."""
        if (span := self._open) is not None and factor < self._factor:
            span.skipped, span.factor = span.skipped + 1, factor
        self._factor = factor

    def locate(self, place: Place, *, hidden: bool) -> None:
        """What a measured step of the last span found; ``hidden``: what the sums of every step do not show."""
        if (span := self._open) is not None and span.last == place.step:
            span.place, span.hidden = span.place or place, span.hidden or hidden

    @property
    def failures(self) -> list[Span]:
        """The spans that a GradScaler's too large factor does not explain."""
        return [span for span in self.spans if not span.overflowed]

    @property
    def steps(self) -> list[range]:
        """The steps that were not finite."""
        return [range(span.first, span.last + 1) for span in self.spans]

    def lines(self, steps: int) -> list[str]:
        """In words, of the first ``steps`` steps."""
        failures = self.failures
        lines = [_told(span, steps) for span in failures[:NAMED]]
        if len(failures) > NAMED:
            lines.append(f"not finite {len(failures) - NAMED} more times, the last at step {failures[-1].last:,}")
        skipped = [span for span in self.spans if span.overflowed]
        return lines + ([_said_of_skipped(skipped, steps)] if skipped else [])


def _said_of_skipped(spans: Sequence[Span], steps: int) -> str:
    """What a GradScaler skipped, and whether it is known to be its own doing, from a measured forward pass."""
    count = _count(sum(span.skipped for span in spans))
    what = f"the GradScaler skipped {count} ({_range(spans[0].first, spans[-1].last)})"
    if spans[-1].again is None and spans[-1].last == steps - 1:
        return f"{what}, the last one too: whether it recovers is not known"
    if all(span.place is not None for span in spans):
        return f"{what} whose scaled gradients were too large: no failure"
    return f"{what}, as where scaled gradients are too large; a bad batch looks the same, and every=1 tells which"


def _told(span: Span, steps: int) -> str:
    when, after = _when(span), _after(span, steps)
    if span.place is None:
        return f"not finite {when}, where no layer was seen to begin it: every=1 shows it{after}"
    if span.place.step == span.first:
        return f"not finite {when}: first {span.place}{after}"
    # What is broken by then need not be what broke first: an update carries NaN from one layer to all.
    hidden = span.place.what == "weight"
    return (
        f"not finite {when}, which was not measured; by step {span.place.step:,} {span.place}"
        f"{': an update had spread it, and every=1 shows where it begins' if hidden else ''}{after}"
    )


def _when(span: Span) -> str:
    if span.hidden and span.last > span.first:
        return f"at every measured step from {span.first:,} to {span.last:,}"
    return f"since step {span.first:,}" if span.again is None else f"at {_range(span.first, span.last)}"


def _after(span: Span, steps: int) -> str:
    """What came of it: steps that were skipped, and since when it is finite again, where that is known."""
    skipped = f"; the GradScaler skipped {_count(span.skipped)}" if span.skipped else ""
    if span.again is not None:
        return f"{skipped}; finite again from step {span.again:,}"
    return f"{skipped}; not measured since" if span.hidden and span.last < steps - 1 else skipped


def _count(steps: int) -> str:
    return f"{steps:,} step{'s' * (steps != 1)}"


def _range(first: int, last: int) -> str:
    return f"step {first:,}" if first == last else f"steps {first:,} to {last:,}"
