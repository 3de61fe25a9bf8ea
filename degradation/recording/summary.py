"""What a recording kept -> a few lines of words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from degradation.recording.judging import ALONE, Profile, judge
from degradation.recording.notes import NAMED, several

NOTHING = "no layer vanishes, explodes or is dead"


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a summary is made of."""

    entered: bool
    """Whether the recording was ever entered."""
    steps: int
    """Backward passes counted."""
    every: int
    """Of how many one is measured, whatever happens."""
    profiles: Mapping[int, Profile]
    """Of each step that was kept."""
    nonfinite: Sequence[str]
    """What was not finite, in words, and the steps that were not."""
    broken: Sequence[range]
    notes: Sequence[str]
    idle: Sequence[str]
    """Trained layers that took no part in any measured step."""
    uncovered: Mapping[str, str]
    """What holds trained weights and is no layer of the recording -> its type."""


def summary(told: Told) -> str:
    """What was recorded, what stands out at the last measured step, what did before, and what could not be measured."""
    if not told.profiles:
        if not told.entered:
            return "nothing was recorded: the recording was never entered; put `with rec:` around the loop"
        return "\n".join(["nothing was recorded: no backward reached a weight of the network", *told.notes])
    measured = list(told.profiles)
    layers = len(told.profiles[measured[-1]].names)
    often = f" (every={told.every:,})" if told.every > 1 else ""
    head = f"{_count(layers, 'layer')}, {_count(len(measured), 'measured step')} of {told.steps:,}{often}"
    lines = [head, *told.nonfinite, *_findings(told), *told.notes]
    if told.idle:
        lines.append(f"never used: {several(told.idle)}")
    if told.uncovered:
        lines.append(f"not recorded, though trained: {_uncovered(told.uncovered)} (layers= can name what has a weight)")
    return "\n".join(lines)


def _findings(told: Told) -> list[str]:
    """A line for each finding of the last measured step, and for each that earlier steps had and it has not."""
    measured = list(told.profiles)
    last = measured[-1]
    found: dict[str, list[int]] = {}
    latest: dict[str, str] = {}
    now: dict[str, str] = {}
    for step in measured:
        now = dict(judge(told.profiles[step]))
        latest |= now
        for kind in now:
            found.setdefault(kind, []).append(step)
    lines = [
        f"at step {last:,}: {_said(kind, details)}{_since(found.get(kind, measured), measured)}"
        for kind, details in _few(now).items()
    ]
    if not now:
        lines = _nothing(told, last)
    gone = [(kind, steps) for kind, steps in found.items() if kind not in now]
    lines += [f"before, {_when(steps)}: {_said(kind, latest[kind])}" for kind, steps in gone[:NAMED]]
    return lines + ([f"before: {len(gone) - NAMED} findings more"] if len(gone) > NAMED else [])


def _few(now: Mapping[str, str]) -> dict[str, str]:
    """The findings, of layers that stand out alone the first few."""
    alone = [kind for kind in now if kind.endswith(ALONE)]
    shown = {kind: details for kind, details in now.items() if kind not in alone[NAMED:]}
    rest = len(alone) - NAMED
    return shown | ({f"{rest} more responses or gradients": "they stand out from their neighbours"} if rest > 0 else {})


def _nothing(told: Told, last: int) -> list[str]:
    if not told.profiles[last].anything():
        return [f"at step {last:,}: no number is finite, so nothing can be judged"]
    return [] if any(last in steps for steps in told.broken) else [f"at step {last:,}: {NOTHING}"]


def _said(kind: str, details: str) -> str:
    return f"{kind} {details}" if kind == "no gradient" else f"{kind}: {details}"


def _since(steps: Sequence[int], measured: Sequence[int]) -> str:
    """Since when it is so without a break, where that is not from the first measured step on."""
    since = len(measured)
    while since and measured[since - 1] in steps:
        since -= 1
    return f" (since step {measured[since]:,})" if since else ""


def _when(steps: Sequence[int]) -> str:
    if len(steps) == 1:
        return f"at step {steps[0]:,}"
    return f"at {len(steps):,} measured steps, {steps[0]:,} to {steps[-1]:,}"


def _uncovered(modules: Mapping[str, str]) -> str:
    return several([f"{name} ({kind})" for name, kind in modules.items()])


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"
