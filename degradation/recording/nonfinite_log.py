"""Results of each step, with details of measured ones -> spans of non-finite steps and their causes, as text.

For a step that is not measured only the gradients of the weights are known. So a span ends at a step that was measured
and finite, and unmeasured steps inside it count as unknown.
"""

import math
from dataclasses import dataclass, field

from degradation.recording.nonfinite import Place

NAMED = 3  # most spans with a line of their own
START = 2.0**16  # first factor of torch's GradScaler
HANDFUL = 8
"""Most consecutive skips that a too large factor explains: each halves it, so eight divide it by 256. From torch's
initial factor a training needs a few; after more, a smaller factor did not help. A factor above ``START``
may skip one more for each halving between."""


@dataclass(kw_only=True)
class Span:
    """Non-finite steps, without a measured finite one between them."""

    first: int
    last: int
    broken: int = 1
    """How many steps are known not to be finite; the others between ``first`` and ``last`` are not known."""
    factor: float = 1.0
    """The GradScaler's factor at the first."""
    losses: set[bool | None] = field(default_factory=set)
    """Whether the scaled losses were finite; None if none was seen."""
    seen: bool = False
    """Whether the first was measured."""
    place: Place | None = None
    forward: bool = True
    """Whether all measured forward passes were finite."""
    hidden: bool = False
    """Whether only a measured step can show it, not the gradients."""
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
        """Whether a too large factor explains it completely."""
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
        """The last span, if no step has been measured finite since."""
        return self.spans[-1] if self.spans and self.spans[-1].again is None else None

    def add(self, step: int, finite: bool, factor: float, loss: bool | None) -> bool:
        """The gradients of the next step, the factor of its GradScaler and its loss; whether to measure what follows.

        Measured are the step after the gradients stop being finite, and the step after they are finite again.
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

        That update belongs to every step since the last one; with accumulation several, of which one is enough.
        """
        if factor < self._factor:
            for span in reversed(self.spans):
                if span.skipped == span.broken:
                    break
                span.skipped = span.broken
                span.falls += 1
        self._factor = factor

    def measured(self, step: int, place: Place | None) -> bool:
        """Enter the first non-finite value of a measured step; returns whether there is one."""
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
        """The non-finite steps, and the unknown ones between them."""
        return [range(span.first, span.last + 1) for span in self.spans]

    def lines(self) -> list[str]:
        """The failures as text."""
        failures = self.failures
        lines = [_line(span) for span in failures[:NAMED]]
        if len(failures) > NAMED:
            lines.append(f"not finite {len(failures) - NAMED} more times, the last at step {failures[-1].last:,}")
        return lines

    def skips(self) -> list[str]:
        """The skips that a GradScaler's factor explains, as text."""
        overflows = [span for span in self.spans if span.overflow]
        return [_skipped(overflows)] if overflows else []


def _skipped(spans: list[Span]) -> str:
    """Skipped steps that need not be failures; this cannot be proved."""
    count, last = sum(span.skipped for span in spans), spans[-1]
    line = (
        f"the GradScaler skipped {count:,} step{'s' * (count > 1)} ({_range(spans[0].first, last.last)}) where the "
        "loss was finite and the scaled gradients were not, as with a factor that is too large"
    )
    if last.running:
        line += f"; since step {last.first:,} none was finite: whether a smaller factor helps is not known yet"
    return line


def _line(span: Span) -> str:
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
        # Without a scaler the loss is unknown.
        loss = "the loss was not finite and " if False in span.losses else ""
        return f", where {loss}no layer was seen to start it" + ("" if span.seen else ": every=1 shows it")
    if place.step == span.first:
        return f": first {place}"
    # What is broken then need not have broken first: one update spreads NaN from one layer to all.
    spread = ": an update had spread it, and every=1 shows where it starts" if place.what == "weight" else ""
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
