"""The kinds of findings of a recording, each with a suggestion."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

VANISHING, EXPLODING, ODD, DEAD = "vanishing", "exploding", "odd layer", "dead"
CUT, TINY, HUGE = "cut off", "tiny gradients", "huge gradients"
NOT_FINITE, PILING = "not finite", "gradients pile up"
SLOW, FAST, STILL = "updates too small", "updates too large", "not moving"

TRY = {
    VANISHING: "a norm after each layer, shortcuts around pairs of layers, or larger initial weights (He's for ReLU)",
    EXPLODING: "a norm after each layer, smaller initial weights, or a factor below 1 on each residual branch",
    ODD: "compare how this layer is initialized and scaled with the layers next to it",
    DEAD: "a smaller learning rate, initial biases of zero, or LeakyReLU or GELU instead of ReLU",
    CUT: "look for detach, no_grad, .data, .item() or a factor of zero between these layers and the loss",
    TINY: "check the scale of the loss: a mean over too many values, a small loss weight, or a solved task",
    HUGE: "check the scale of the loss and of the inputs: normalize the inputs, take a mean instead of a sum",
    NOT_FINITE: "check the data of that step for NaN and infinity, then lower the learning rate or clip gradients",
    PILING: "call optimizer.zero_grad() in every step, before backward",
    SLOW: "a larger learning rate: weights usually move by about a thousandth of their norm in a step",
    FAST: "a learning rate ten times smaller, or a warmup: weights usually move by about a thousandth of their norm",
    STILL: "unless intended: requires_grad_(True), put all parameters of this network in the optimizer, call step()",
}


class Issue(NamedTuple):
    """A finding at one step."""

    kind: str
    what: str
    """Its kind, the same at every step."""
    details: str
    """Its numbers at this step."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A problem found by a recording."""

    kind: str
    """One of the keys of ``TRY``."""
    text: str
    try_: str


def finding(kind: str, text: str) -> Finding:
    """The finding with a suggestion for its kind."""
    return Finding(kind=kind, text=text, try_=TRY[kind])


def lines_of(parts: Sequence[Sequence[Finding]]) -> list[list[str]]:
    """The lines of each part: one per finding, and a suggestion after the last of each kind."""
    suggested: set[str] = set()
    lines_by_part = []
    for part in parts:
        lines = []
        for place, item in enumerate(part):
            lines.append(item.text)
            if item.kind not in suggested and (place + 1 == len(part) or part[place + 1].kind != item.kind):
                suggested.add(item.kind)
                lines.append(f"  try: {item.try_}")
        lines_by_part.append(lines)
    return lines_by_part
