"""What each step told, and more the measured ones -> spans of steps that were not finite, what made them, in words.

Of a step that is not measured only the gradients of the weights are known. So a span ends where a step was measured and
found finite, and steps within it that nobody saw are not told as one or the other.
"""

import math
from dataclasses import dataclass, field

from degradation.recording.nonfinite import Place

NAMED = 3  # spans that are told one by one
START = 2.0**16  # factor with which torch's GradScaler begins
HANDFUL = 8
"""Skips in a row that a factor explains which is too large: each halves it, so eight lower it 256 times. From torch's
start a training needs a few; where more follow each other, a smaller factor did not help. One that is above ``START``
has as many more to go as there are halvings between."""


@dataclass(kw_only=True)
class Span:
    """Steps that were not finite, with none between them that was measured and was."""

    first: int
    last: int
    broken: int = 1
    """How many steps are known not to be finite; the others between ``first`` and ``last`` are not known."""
    factor: float = 1.0
    """Of the GradScaler at the first."""
    losses: set[bool | None] = field(default_factory=set)
    """Whether the losses that were scaled were finite; None where none was seen."""
    seen: bool = False
    """Whether the first was measured."""
    place: Place | None = None
    forward: bool = True
    """Whether the forward passes were finite as far as they were measured."""
    hidden: bool = False
    """Whether the gradients do not show it, so that only a measured step does."""
    calm: int | None = None
    """The first step after ``last`` whose gradients were finite."""
    again: int | None = None
    """The step after them that was measured and found finite."""
    skipped: int = 0
    """How many of them a GradScaler skipped."""
    falls: int = 0
    """How often it lowered its factor for them."""

    @property
    def whole(self) -> bool:
        """Whether every step from the first to the last is known not to be finite."""
        return self.broken == self.last - self.first + 1

    @property
    def running(self) -> bool:
        """Whether nothing finite was seen since."""
        return self.again is None and self.calm is None

    @property
    def overflow(self) -> bool:
        """Whether a factor that was too large can be all there is to it."""
        halvings = HANDFUL + max(0.0, math.log2(max(self.factor, 1.0) / START))
        finite = self.forward and self.losses == {True}
        return finite and self.skipped == self.broken and self.falls <= halvings


class Log:
    """When the network was not finite."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._factor = 1.0

    @property
    def _open(self) -> Span | None:
        """The last span, where no step has been measured finite since."""
        return self.spans[-1] if self.spans and self.spans[-1].again is None else None

    def add(self, step: int, finite: bool, factor: float, loss: bool | None) -> bool:
        """The gradients of the next step, the factor of its GradScaler and its loss; whether to measure what follows.

        That is where they stop being finite, to see what it was, and where they are finite again, to see if all is.
        """
        self.update_scale(factor)
        span = self._open
        if finite:
            if span is None or span.hidden or span.calm is not None:
                return False
            span.calm = step
            return True
        if span is None or span.calm is not None:
            self.spans.append(Span(first=step, last=step, factor=factor, losses={loss}))
            return True
        span.last, span.broken = step, span.broken + 1
        span.losses.add(loss)
        return False

    def update_scale(self, factor: float) -> None:
        """The factor after the last step: a GradScaler lowers it when it has skipped an update.

        That is the update of every step since the last one, with accumulation several, of which one is enough.
        """
        if factor < self._factor:
            for span in reversed(self.spans):
                if span.skipped == span.broken:
                    break
                span.skipped = span.broken
                span.falls += 1
        self._factor = factor

    def measured(self, step: int, place: Place | None) -> bool:
        """What was not finite first at a step that was added and measured; returns whether it was not finite."""
        span = self._open
        broken = span is not None and span.last == step
        if span is not None and span.first == step:
            span.seen = True
        if place is None:
            if span is not None and not broken:
                span.again = step
            return broken
        if span is None:
            span = Span(first=step, last=step, factor=self._factor, losses={None}, seen=True, hidden=True)
            self.spans.append(span)
        elif not broken:
            span.last, span.broken, span.calm, span.hidden = step, span.broken + 1, None, True
        span.place = span.place or place
        span.forward = span.forward and place.what == "gradient"
        return True

    @property
    def failures(self) -> list[Span]:
        """The spans that a GradScaler's factor does not explain."""
        return [span for span in self.spans if not span.overflow]

    @property
    def steps(self) -> list[range]:
        """The steps that were not finite, and those between them that are not known."""
        return [range(span.first, span.last + 1) for span in self.spans]

    def lines(self) -> list[str]:
        """The failures in words."""
        failures = self.failures
        lines = [_told(span) for span in failures[:NAMED]]
        if len(failures) > NAMED:
            lines.append(f"not finite {len(failures) - NAMED} more times, the last at step {failures[-1].last:,}")
        return lines

    def skips(self) -> list[str]:
        """In words what a GradScaler's factor explains."""
        overflows = [span for span in self.spans if span.overflow]
        return [_skipped(overflows)] if overflows else []


def _skipped(spans: list[Span]) -> str:
    """Steps that were skipped and need not be failures; that they are none is never seen."""
    count, last = sum(span.skipped for span in spans), spans[-1]
    line = (
        f"the GradScaler skipped {count:,} step{'s' * (count > 1)} ({_range(spans[0].first, last.last)}) where the "
        "loss was finite and the scaled gradients were not, as with a factor that is too large"
    )
    if last.running:
        line += f"; since step {last.first:,} none was finite: whether a smaller factor helps is not known yet"
    return line


def _told(span: Span) -> str:
    return f"not finite {_when(span)}{_cause(span)}{_skips(span)}{_after(span)}"


def _when(span: Span) -> str:
    if span.whole:
        return f"since step {span.first:,}" if span.running else f"at {_range(span.first, span.last)}"
    until = "since step" if span.running else "from step"
    to = "" if span.running else f" to {span.last:,}"
    return f"at every measured step {until} {span.first:,}{to} (between them only finite gradients were seen)"


def _cause(span: Span) -> str:
    place = span.place
    if place is None:
        # Without a scaler nobody shows the loss.
        loss = "the loss was not finite and " if False in span.losses else ""
        return f", where {loss}no layer was seen to begin it" + ("" if span.seen else ": every=1 shows it")
    if place.step == span.first:
        return f": first {place}"
    # What is broken by then need not be what broke first: an update carries NaN from one layer to all.
    spread = ": an update had spread it, and every=1 shows where it begins" if place.what == "weight" else ""
    unseen = "" if span.seen else ", which was not measured"
    return f"{unseen}; by step {place.step:,} {place}{spread}"


def _skips(span: Span) -> str:
    if not span.skipped or span.skipped < span.broken:
        return ""
    each = "every step since" if span.running else "it" if span.broken == 1 else "them"
    return f"; the GradScaler skipped {each}"


def _after(span: Span) -> str:
    if span.again is not None:
        return f"; finite again from step {span.again:,}"
    return "" if span.calm is None else f"; at step {span.calm:,}, not measured, the gradients were finite"


def _range(first: int, last: int) -> str:
    return f"step {first:,}" if first == last else f"steps {first:,} to {last:,}"
