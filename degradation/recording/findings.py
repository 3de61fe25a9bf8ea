"""The kinds of findings of a recording, and for each one line of what to try."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

VANISHING, EXPLODING, ODD, DEAD = "vanishing", "exploding", "odd layer", "dead"
CUT, TINY, HUGE = "cut off", "tiny gradients", "huge gradients"
NOT_FINITE, PILING = "not finite", "gradients pile up"
SLOW, FAST, STILL = "updates too small", "updates too large", "not moving"

TRY = {
    VANISHING: "a norm behind each layer, shortcuts around pairs of layers, or larger initial weights (He's for ReLU)",
    EXPLODING: "a norm behind each layer, smaller initial weights, or a factor below 1 on each residual branch",
    ODD: "compare how this layer is initialized and scaled with the layers next to it",
    DEAD: "a smaller learning rate, initial biases of zero, or LeakyReLU or GELU instead of ReLU",
    CUT: "look for detach, no_grad, .data, .item() or a factor of zero between these layers and the loss",
    TINY: "look at the scale of the loss: a mean over too much, a small weight, or a task that is solved",
    HUGE: "look at the scale of the loss and of the inputs: normalize the inputs, take a mean instead of a sum",
    NOT_FINITE: "look at the data of that step for NaN and infinity, then lower the learning rate or clip gradients",
    PILING: "call optimizer.zero_grad() in every step, before backward",
    SLOW: "a larger learning rate: weights usually move by about a thousandth of their norm in a step",
    FAST: "a learning rate ten times smaller, or a warmup: weights usually move by about a thousandth of their norm",
    STILL: "if it is not meant: requires_grad_(True), all parameters of this network in the optimizer, and its step()",
}


class Found(NamedTuple):
    """What stands out at one step."""

    kind: str
    what: str
    """The same at every step where it is so."""
    details: str
    """At this step."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a recording says is wrong."""

    kind: str
    """One of the keys of ``TRY``."""
    text: str
    try_: str


def finding(kind: str, text: str) -> Finding:
    """With the line of what to try against its kind."""
    return Finding(kind=kind, text=text, try_=TRY[kind])


def lines_of(parts: Sequence[Sequence[Finding]]) -> list[list[str]]:
    """The lines of each part: one a finding, and once for each kind, behind the last in a row, what to try."""
    tried: set[str] = set()
    found = []
    for part in parts:
        lines = []
        for place, one in enumerate(part):
            lines.append(one.text)
            if one.kind not in tried and (place + 1 == len(part) or part[place + 1].kind != one.kind):
                tried.add(one.kind)
                lines.append(f"  try: {one.try_}")
        found.append(lines)
    return found
