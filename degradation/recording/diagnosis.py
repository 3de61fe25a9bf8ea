"""The numbers of every layer at one step -> findings: a direction with depth, one layer, dead ones, the scale.

Layers are compared by numbers that do not grow with their size: the root mean square of the gradient with respect to a
response (the gradient of a weight also grows with positions and inputs), and the std of the response. The gradient of a
weight is the product of both, so one of them shows if it vanishes. If a response has other positions (pixels, words)
than the next one, a mean over them divides the gradient at each by their number, which is no vanishing: the effect of a
mean is removed, once for each number of positions. The thresholds and their reasons:

- ``FAR`` 1000: between the two ends of a network (direction), or between a layer and the geometric mean of its two
  neighbours, and beyond each of them by its root (one layer). An end is the median of the first or last three layers
  (of fewer in a network of fewer than nine), so that one odd layer does not count; for gradients at the input it is the
  largest of them, since gradients within a branch do not show what reaches the input. torchvision's ResNet-18 and -50,
  MobileNetV2, VGG-11 and ConvNeXt, and transformers stay below it in their first steps, though two of their layers can
  differ more.
- ``DEAD`` 95 %: this share of a response is at most zero, and this share of its gradient is exactly zero. The second
  shows that a later operation cuts it off, as a ReLU; before a Softplus or a loss negative values also get gradients.
- ``LOST`` 1e-7: norm of a weight's gradient over norm of the weight. Below it everywhere, a step with learning rate 1
  is lost in the rounding of float32. ``HUGE`` 1e6: above it everywhere, 1e-6 moves each weight by its own norm.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from degradation.recording import findings
from degradation.recording.findings import Issue
from degradation.recording.notes import several
from degradation.recording.uses import Numbers

FAR, END, DEAD = 1000.0, 3, 0.95
LOST, HUGE = 1e-7, 1e6
ALONE = "stands out"
Places = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One measured step: for each number one value per layer, in forward order; NaN if unknown or not finite."""

    names: tuple[str, ...]
    gradient: Numbers
    """Root mean square of the gradient of the response."""
    places: Numbers
    """Positions of the response, of all examples."""
    weight_gradient: Numbers
    """Norm of the gradient of the weight."""
    relative: Numbers
    """The same over the norm of the weight."""
    weight: Numbers
    """Norm of the weight."""
    moved: Numbers
    """Norm of the update over that of the weight."""
    std: Numbers
    """Of the response."""
    zeros: Numbers
    """Share of the response that is at most zero."""
    silent: Numbers
    """Share of the gradient of the response that is exactly zero."""

    def silenced(self) -> "Profile":
        """The same without gradients: those of an empty batch are zero."""
        unknown = np.full(len(self.names), np.nan)
        return replace(self, gradient=unknown, weight_gradient=unknown, relative=unknown)

    def anything(self) -> bool:
        """Whether there is any number."""
        return any(np.isfinite(part).any() for part in (self.gradient, self.weight_gradient, self.std))


def profiles(
    frames: Mapping[str, pd.DataFrame], names: Sequence[str], silent: Sequence[Numbers], channels: Sequence[Numbers]
) -> list[Profile]:
    """A Profile for each measured step of the frames of a recording.

    ``silent`` and ``channels`` have an array over layers for each step.
    """
    count = len(silent)
    columns = {
        "gradient": _wide(frames, "gradients", "response_grad_rms", names, count),
        "weight_gradient": _wide(frames, "gradients", "weight_grad_norm", names, count),
        "weight": _wide(frames, "gradients", "weight_norm", names, count),
        "std": _wide(frames, "responses", "std", names, count),
        "zeros": _wide(frames, "responses", "zero_fraction", names, count),
        "silent": np.array(silent),
    }
    norms = _wide(frames, "gradients", "response_grad_norm", names, count)
    updates = _wide(frames, "gradients", "update_norm", names, count)
    with np.errstate(divide="ignore", invalid="ignore"):
        columns["places"] = (norms / columns["gradient"]) ** 2 / np.reshape(channels, norms.shape)
        columns["relative"] = columns["weight_gradient"] / columns["weight"]
        columns["moved"] = updates / columns["weight"]
    finite = {name: np.where(np.isfinite(column), column, np.nan) for name, column in columns.items()}
    return [Profile(names=tuple(names), **{name: column[n] for name, column in finite.items()}) for n in range(count)]


def _wide(frames: Mapping[str, pd.DataFrame], frame: str, column: str, names: Sequence[str], steps: int) -> Numbers:
    """(steps, layers): a column of a frame; NaN without the frame, and for layers that it does not have."""
    wide = np.full((steps, len(names)), np.nan)
    if frame in frames and steps:
        data = frames[frame]
        layers = list(data["name"][: len(data) // steps])
        wide[:, [names.index(name) for name in layers]] = data[column].to_numpy().reshape(steps, -1)
    return wide


def judge(profile: Profile) -> list[Issue]:
    """The findings, causes first."""
    responses = _direction(profile, profile.std, "response", "with depth")
    return [*_dead(profile), *_gradients(profile), *responses, *_scale(profile)]


def _dead(profile: Profile) -> Iterator[Issue]:
    off = (profile.zeros >= DEAD) & (profile.silent >= DEAD)
    wholly = off & (profile.zeros == 1) & (profile.silent == 1)
    if wholly.any():
        # After a dead layer a response is constant: these follow from the first one.
        follows = wholly & (profile.std == 0) & (np.cumsum(wholly) > 1)
        also = f"; after it {_names(profile, follows)}" if follows.any() else ""
        culprits = _names(profile, wholly & ~follows)
        yield Issue(findings.DEAD, "dead", f"{culprits} (no response is above zero, and no gradient comes back){also}")
    nearly = off & ~wholly
    if nearly.any():
        yield Issue(
            findings.DEAD,
            "nearly dead",
            _names(profile, nearly, profile.zeros, "{:.1%} of the response at most zero, without gradient"),
        )


def _gradients(profile: Profile) -> Iterator[Issue]:
    issues = [*_direction(profile, _without_means(profile), "gradient", "towards the input"), *_within(profile)]
    yield from issues
    norms = profile.weight_gradient
    alive = np.flatnonzero(norms > 0)
    # Before a vanishing gradient zeros are expected: values too small for their type.
    vanished = len(alive) and any(issue.kind == findings.VANISHING for issue in issues)
    still = (norms == 0) & (np.arange(len(norms)) >= (alive[0] if vanished else 0))
    if still.any():
        layers = _names(profile, still) if len(alive) else "any layer"
        yield Issue(findings.CUT, "no gradient", f"reaches the weight of {layers}")


def _within(profile: Profile) -> Iterator[Issue]:
    """Findings on the weights of an LSTM, GRU or RNN of several levels, whose inner responses are not visible."""
    levels: dict[str, list[int]] = {}
    for place, name in enumerate(profile.names):
        owner, _, last = name.rpartition(".")
        if last.startswith("weight_hh") and profile.weight_gradient[place] > 0:
            levels.setdefault(owner, []).append(place)
    for owner, places in levels.items():
        what = f"gradient within {owner}" if owner else "gradient"
        yield from _trend(profile, profile.weight_gradient, np.array(places), what, "towards the input")


def _without_means(profile: Profile) -> Numbers:
    """The gradients, without the factor of a mean or a sum over positions."""
    values, places = profile.gradient.copy(), np.round(np.log10(profile.places), 2)
    factors: dict[float, float] = {}
    after: tuple[float, float, float] | None = None
    for layer in np.flatnonzero((values > 0) & np.isfinite(places))[::-1]:
        count, size = float(places[layer]), float(np.log10(values[layer]))
        if after is None:
            factors[count] = 0.0
        elif count not in factors:
            change, means = size - after[1], after[0] - count
            factors[count] = after[2] - float(np.clip(change, min(0.0, means), max(0.0, means)))
        after = (count, size, factors[count])
        values[layer] *= 10 ** factors[count]
    return values


def _scale(profile: Profile) -> Iterator[Issue]:
    ratios = profile.relative[profile.relative > 0]
    if len(ratios) and ratios.max() < LOST:
        yield Issue(findings.TINY, "every gradient is tiny", f"at most {ratios.max():.1e} of the norm of its weight")
    if len(ratios) and ratios.min() > HUGE:
        details = f"at least {ratios.min():.1e} times the norm of its weight"
        yield Issue(findings.HUGE, "every gradient is huge", details)


def _direction(profile: Profile, values: Numbers, what: str, where: str) -> Iterator[Issue]:
    """Findings on single odd layers, and on the others if they vanish or explode in the direction ``where``."""
    alive = np.flatnonzero(values > 0)
    if len(alive) < 2:
        return
    logs = np.log10(values[alive])
    lone = _lone(logs)
    trend = list(_trend(profile, values, alive[~lone], what, where))
    for place in np.flatnonzero(lone):
        if trend and place in (0, len(logs) - 1):
            continue  # at an end of a trend even an ordinary layer is far from its neighbours
        near = float(np.median(np.delete(logs, place)[max(0, place - 2) : place + 2]))
        layer = alive[place]
        details = f"{_power(logs[place] - near)} times that of the layers next to it ({values[layer]:.1e})"
        yield Issue(findings.ODD, f"the {what} of {profile.names[layer]} {ALONE}", details)
    yield from trend


def _trend(profile: Profile, values: Numbers, alive: Places, what: str, where: str) -> Iterator[Issue]:
    if len(alive) < 2:
        return
    logs = np.log10(values[alive])
    first, last = _ends_of_gradients(logs) if what == "gradient" else _ends(logs)
    begin, end = (last, first) if where == "towards the input" else (first, last)
    change = logs[end] - logs[begin]
    if abs(change) < np.log10(FAR):
        return
    kind, word = (findings.VANISHING, "vanishes") if change < 0 else (findings.EXPLODING, "explodes")
    start, stop = alive[begin], alive[end]
    details = (
        f"by a factor of {_power(abs(change))} from {profile.names[start]} ({values[start]:.1e}) "
        f"to {profile.names[stop]} ({values[stop]:.1e})"
    )
    details += _at_once(profile, alive, logs, change, where) + _to_zero(values, alive, word, where)
    yield Issue(kind, f"the {what} {word} {where}", details)


def _power(exponent: float) -> str:
    """10 to this power as text, also beyond the range of float64."""
    return f"{10**exponent:.0e}" if abs(exponent) < 300 else f"1e{exponent:+.0f}"


def _at_once(profile: Profile, alive: Places, logs: Numbers, change: float, where: str) -> str:
    """The two layers with most of the change between them, if it is abrupt."""
    steps = np.diff(logs) * (-1 if where == "towards the input" else 1) * np.sign(change)
    place = int(steps.argmax())
    if steps[place] < max(abs(change) / 2, 2) or len(logs) < 4:
        return ""
    return f", most of it between {profile.names[alive[place]]} and {profile.names[alive[place + 1]]}"


def _to_zero(values: Numbers, alive: Places, word: str, where: str) -> str:
    """The number of layers beyond that are zero: too small for the type of the values."""
    beyond = values[: alive[0]] if where == "towards the input" else values[alive[-1] + 1 :]
    count = int((beyond == 0).sum())
    if word == "explodes" or not count:
        return ""
    return f", and to nothing in the {count} layer{'s' * (count > 1)} beyond"


def _ends(logs: Numbers) -> tuple[int, int]:
    """The layers that represent the first and the last: of three the middle one, of two the inner one."""
    width = min(END, -(-len(logs) // 4))
    first, last = np.argsort(logs[:width]), np.argsort(logs[-width:])
    if width == 2:
        return 1, len(logs) - 2
    return int(first[width // 2]), len(logs) - width + int(last[width // 2])


def _ends_of_gradients(logs: Numbers) -> tuple[int, int]:
    """The layers whose gradient represents the first and the last: of the first three the largest.

    Within a branch a gradient can be far smaller without vanishing: after a gamma of zero, before the softmax of an
    attention. The gradient of the input comes through the other layers.
    """
    first, last = _ends(logs)
    width = min(END, -(-len(logs) // 4))
    return (first if width < END else int(logs[:width].argmax())), last


def _lone(logs: Numbers) -> NDArray[np.bool_]:
    """Layers far above or below their neighbours (at an end, the next two), which are not far from each other."""
    count, far = len(logs), np.log10(FAR)
    lone = np.zeros(count, dtype=bool)
    if count < 3:
        return lone
    for place in range(count):
        near = (1, 2) if place == 0 else (-2, -3) if place == count - 1 else (place - 1, place + 1)
        away = [logs[place] - logs[neighbour] for neighbour in near]
        beyond = away[0] * away[1] > 0 and min(abs(away[0]), abs(away[1])) > far / 2
        lone[place] = beyond and abs(sum(away)) > 2 * far and abs(away[0] - away[1]) < far
    return lone


def _names(profile: Profile, chosen: NDArray[np.bool_], values: Numbers | None = None, form: str = "") -> str:
    return several(
        [
            profile.names[place] + ("" if values is None else f" ({form.format(values[place])})")
            for place in np.flatnonzero(chosen)
        ]
    )
