"""What a recording kept -> a few lines of words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from degradation.recording import findings
from degradation.recording.course import Course, judge_course
from degradation.recording.diagnosis import ALONE, Profile, judge
from degradation.recording.findings import Finding, Found, finding, lines_of
from degradation.recording.nonfinite_log import Log
from degradation.recording.notes import NAMED, several

NOTHING = "no layer vanishes, explodes or is dead"


@dataclass(frozen=True, kw_only=True)
class SummaryInput:
    """What a summary is made of."""

    entered: bool
    """Whether the recording was ever entered."""
    steps: int
    """Backward passes counted."""
    every: int
    """Of how many one is measured, whatever happens."""
    profiles: Mapping[int, Profile]
    """Of each step that was kept."""
    log: Log
    """What was not finite."""
    notes: Sequence[str]
    uncovered: Mapping[str, str]
    """What holds trained weights and is no layer of the recording -> its type."""
    course: Course


def summary(told: SummaryInput) -> str:
    """What was recorded, what stands out at the last measured step, what did before, and what could not be measured."""
    if not told.profiles:
        if not told.entered:
            return "nothing was recorded: the recording was never entered; put `with rec:` around the loop"
        return "\n".join(["nothing was recorded: no backward reached a weight of the network", *told.notes])
    now, before, more = _layers(told)
    now = [*judge_course(told.profiles, told.course), *now]
    broken, present, past = lines_of([_broken(told), now, before])
    lines = [_head(told), *broken, *told.log.skips(), *(present or _nothing(told)), *past, *more, *told.notes]
    if told.course.unused:
        lines.append(f"never used: {several(told.course.unused)}")
    return "\n".join(lines)


def findings_of(told: SummaryInput) -> list[Finding]:
    """What a summary says is wrong, or was."""
    if not told.profiles:
        return _broken(told)
    now, before, _ = _layers(told)
    return [*_broken(told), *judge_course(told.profiles, told.course), *now, *before]


def _head(told: SummaryInput) -> str:
    """What was recorded and what was not: who reads no more than this must not take a part for the whole."""
    measured = list(told.profiles)
    layers = len(told.profiles[measured[-1]].names)
    often = f" (every={told.every:,})" if told.every > 1 else ""
    head = f"{_count(layers, 'layer')}, {_count(len(measured), 'measured step')} of {told.steps:,}{often}"
    if not told.uncovered:
        return head
    return f"{head}; not recorded, though trained: {_uncovered(told.uncovered)} (layers= can name what has a weight)"


def _broken(told: SummaryInput) -> list[Finding]:
    return [finding(findings.NOT_FINITE, line) for line in told.log.lines()]


def _layers(told: SummaryInput) -> tuple[list[Finding], list[Finding], list[str]]:
    """The findings of the last measured step, those that earlier steps had and it has not, and how many more."""
    measured = list(told.profiles)
    last = measured[-1]
    found: dict[str, list[int]] = {}
    latest: dict[str, Found] = {}
    now: dict[str, Found] = {}
    for step in measured:
        now = {one.what: one for one in judge(told.profiles[step])}
        latest |= now
        for what in now:
            found.setdefault(what, []).append(step)
    lines = [
        finding(one.kind, f"at step {last:,}: {_said(one)}{_since(found.get(one.what, measured), measured)}")
        for one in _few(list(now.values()))
    ]
    gone = [(what, steps) for what, steps in found.items() if what not in now]
    before = [
        finding(latest[what].kind, f"before, {_when(steps)}: {_said(latest[what])}") for what, steps in gone[:NAMED]
    ]
    return lines, before, [f"before: {len(gone) - NAMED} findings more"] if len(gone) > NAMED else []


def _few(now: Sequence[Found]) -> list[Found]:
    """The findings, of layers that stand out alone the first few."""
    alone = [one for one in now if one.what.endswith(ALONE)]
    few = [one for one in now if one not in alone[NAMED:]]
    rest = len(alone) - NAMED
    more = Found(findings.ODD, f"{rest} more responses or gradients", "they stand out from their neighbours")
    return [*few, more] if rest > 0 else few


def _nothing(told: SummaryInput) -> list[str]:
    last = list(told.profiles)[-1]
    broken = any(last in steps for steps in told.log.steps)
    if not told.profiles[last].anything():
        why = "no number is finite" if broken else "no response and no gradient was read"
        return [f"at step {last:,}: {why}, so nothing can be judged"]
    return [] if broken else [f"at step {last:,}: {NOTHING}"]


def _said(one: Found) -> str:
    return f"{one.what}{' ' if one.what == 'no gradient' else ': '}{one.details}"


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
