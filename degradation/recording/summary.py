"""The frames of a recording -> a few lines of words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

FAR = 1000.0  # a gradient or response so many times below or above the median layer's vanishes or explodes
NAMED = 3  # layers that a line names


@dataclass(frozen=True, kw_only=True)
class FirstNonfinite:
    """Where infinity or NaN was first seen: among the measured steps, then in the order of the pass."""

    step: int
    layer: str
    what: Literal["response", "gradient"]


def summary(frames: Mapping[str, pd.DataFrame], broken: FirstNonfinite | None, notes: Sequence[str]) -> str:
    """What stands out, a line each, judged at the last measured step; and what could not be measured."""
    steps = sorted({step for frame in frames.values() for step in frame["step"]})
    if not steps:
        return "\n".join(["nothing was recorded: no backward reached a weight of the network", *notes])
    last = {name: frame[frame["step"] == steps[-1]] for name, frame in frames.items()}
    layers = len(next(iter(last.values())))
    lines = [f"{layers} layers, {len(steps)} measured step{'s' * (len(steps) > 1)}, the last is {steps[-1]:,}"]
    if broken is not None:
        lines.append(f"not finite: first the {broken.what} of {broken.layer} at step {broken.step:,}")
    found = [line for name, judge in JUDGES.items() if name in last for line in judge(last[name])]
    lines += found or ([] if broken else ["no layer vanishes, explodes or is dead"])
    return "\n".join([*lines, *notes])


def _gradients(frame: pd.DataFrame) -> Iterator[str]:
    known = frame.set_index("name")["weight_grad_norm"].replace([np.inf, -np.inf], np.nan).dropna()
    yield from _far("gradient", known)
    still = known[known == 0]
    if len(still):
        yield f"dead: no gradient reaches the weight of {_names(still, '')}"


def _responses(frame: pd.DataFrame) -> Iterator[str]:
    by_name = frame.set_index("name")
    yield from _far("response", by_name["std"].replace([np.inf, -np.inf], np.nan).dropna())
    dead = by_name["zero_fraction"][by_name["zero_fraction"] >= 1]
    if len(dead):
        yield f"dead behind a ReLU: no response is above zero in {_names(dead, '')}"


JUDGES = {"gradients": _gradients, "responses": _responses}


def _far(what: str, values: pd.Series) -> Iterator[str]:
    """Layers a thousand times below or above the median of those that are not zero, the farthest first."""
    alive = values[values > 0]
    if not len(alive):
        return
    middle = float(alive.median())
    low = alive[alive < middle / FAR].sort_values()
    high = alive[alive > middle * FAR].sort_values(ascending=False)
    for word, part in (("vanishes", low), ("explodes", high)):
        if len(part):
            yield f"the {what} {word} in {_names(part, '{:.1e}')} (median layer {middle:.1e})"


def _names(values: pd.Series, form: str) -> str:
    shown = [f"{name} {form.format(value)}".strip() for name, value in values.head(NAMED).items()]
    rest = len(values) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")
