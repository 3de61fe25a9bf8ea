"""The results of a recording -> a few lines of text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from degradation.recording import findings
from degradation.recording.course import LoopInfo, judge_course
from degradation.recording.diagnosis import ALONE, Profile, judge
from degradation.recording.findings import Finding, Issue, finding, lines_of
from degradation.recording.nonfinite_log import Log
from degradation.recording.notes import NAMED, several

NOTHING = "no layer vanishes, explodes or is dead"


@dataclass(frozen=True, kw_only=True)
class SummaryInput:
    """Input of a summary."""

    entered: bool
    """Whether the recording was ever entered."""
    steps: int
    """Backward passes counted."""
    every: int
    """One of how many steps is always measured."""
    profiles: Mapping[int, Profile]
    """One for each step that was kept."""
    log: Log
    """What was not finite."""
    notes: Sequence[str]
    uncovered: Mapping[str, str]
    """Modules with trained weights that are no layer of the recording -> their type."""
    course: LoopInfo


def summary(inputs: SummaryInput) -> str:
    """The text: extent, findings of the last measured step and of earlier ones, and failed measurements."""
    if not inputs.profiles:
        if not inputs.entered:
            return "nothing was recorded: the recording was never entered; put the loop inside `with rec:`"
        return "\n".join(["nothing was recorded: no backward reached a weight of the network", *inputs.notes])
    now, before, more = _layers(inputs)
    now = [*judge_course(inputs.profiles, inputs.course), *now]
    broken, present, past = lines_of([_broken(inputs), now, before])
    lines = [_head(inputs), *broken, *inputs.log.skips(), *(present or _nothing(inputs)), *past, *more, *inputs.notes]
    if inputs.course.unused:
        lines.append(f"never used: {several(inputs.course.unused)}")
    return "\n".join(lines)


def findings_of(inputs: SummaryInput) -> list[Finding]:
    """Findings of a summary, present and past."""
    if not inputs.profiles:
        return _broken(inputs)
    now, before, _ = _layers(inputs)
    return [*_broken(inputs), *judge_course(inputs.profiles, inputs.course), *now, *before]


def _head(inputs: SummaryInput) -> str:
    """The extent of the recording, with the parts that it lacks: this line alone must not mislead."""
    measured = list(inputs.profiles)
    layers = len(inputs.profiles[measured[-1]].names)
    often = f" (every={inputs.every:,})" if inputs.every > 1 else ""
    head = f"{_count(layers, 'layer')}, {_count(len(measured), 'measured step')} of {inputs.steps:,}{often}"
    if not inputs.uncovered:
        return head
    uncovered = several([f"{name} ({kind})" for name, kind in inputs.uncovered.items()])
    return f"{head}; not recorded, though trained: {uncovered} (layers= can name what has a weight)"


def _broken(inputs: SummaryInput) -> list[Finding]:
    return [finding(findings.NOT_FINITE, line) for line in inputs.log.lines()]


def _layers(inputs: SummaryInput) -> tuple[list[Finding], list[Finding], list[str]]:
    """The findings of the last measured step, those only of earlier steps, and how many more."""
    measured = list(inputs.profiles)
    last = measured[-1]
    steps_by_issue: dict[str, list[int]] = {}
    latest: dict[str, Issue] = {}
    now: dict[str, Issue] = {}
    for step in measured:
        now = {issue.what: issue for issue in judge(inputs.profiles[step])}
        latest |= now
        for what in now:
            steps_by_issue.setdefault(what, []).append(step)
    present = []
    for issue in _few(list(now.values())):
        since = _since(steps_by_issue.get(issue.what, measured), measured)
        present.append(finding(issue.kind, f"at step {last:,}: {_sentence(issue)}{since}"))
    past = [(latest[what], steps) for what, steps in steps_by_issue.items() if what not in now]
    before = [finding(issue.kind, f"before, {_when(steps)}: {_sentence(issue)}") for issue, steps in past[:NAMED]]
    return present, before, [f"before: {len(past) - NAMED} findings more"] if len(past) > NAMED else []


def _few(now: Sequence[Issue]) -> list[Issue]:
    """The findings; of single odd layers the first few."""
    odd = [issue for issue in now if issue.what.endswith(ALONE)]
    few = [issue for issue in now if issue not in odd[NAMED:]]
    count = len(odd) - NAMED
    more = Issue(findings.ODD, f"{count} more responses or gradients", "they stand out from their neighbours")
    return [*few, more] if count > 0 else few


def _nothing(inputs: SummaryInput) -> list[str]:
    last = list(inputs.profiles)[-1]
    broken = any(last in steps for steps in inputs.log.steps)
    if not inputs.profiles[last].anything():
        why = "no number is finite" if broken else "no response and no gradient was read"
        return [f"at step {last:,}: {why}, so nothing can be judged"]
    return [] if broken else [f"at step {last:,}: {NOTHING}"]


def _sentence(issue: Issue) -> str:
    return f"{issue.what}{' ' if issue.what == 'no gradient' else ': '}{issue.details}"


def _since(steps: Sequence[int], measured: Sequence[int]) -> str:
    """The step since which it holds without a break, if not the first measured one."""
    since = len(measured)
    while since and measured[since - 1] in steps:
        since -= 1
    return f" (since step {measured[since]:,})" if since else ""


def _when(steps: Sequence[int]) -> str:
    if len(steps) == 1:
        return f"at step {steps[0]:,}"
    return f"at {len(steps):,} measured steps, {steps[0]:,} to {steps[-1]:,}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"
