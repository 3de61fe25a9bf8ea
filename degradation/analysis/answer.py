"""Verdicts and arm differences -> the answer to the study's question, in three or four sentences."""

from collections.abc import Sequence
from itertools import groupby

from degradation.analysis import formatting
from degradation.analysis.claims import claims
from degradation.analysis.estimates import NOT_MEASURED, Caveat, Estimate, Verdict, tally

PLAIN, RESIDUAL, SHORTCUT = "plain-degrades", "residual-does-not-degrade", "shortcut-lowers-error"
ARMS = "arm-gap"
CHANGES = {
    "not-converged": "more steps ({})",
    "images": "other images ({})",
    "other-recipe": "another recipe ({})",
    "one-seed": "more seeds ({})",
}
"""Kinds of caveats that limit the answer -> what could change it."""
COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def answer(verdicts: Sequence[Verdict], caveats: Sequence[Caveat], estimates: Sequence[Estimate]) -> tuple[str, ...]:
    """Say what the arms of a study change, what plain networks do, what shortcuts change, and what is not known.

    Sentences on plain networks and shortcuts are on converged networks if these were judged, else they name the steps.
    """
    gaps = sorted((each for each in estimates if each.name == ARMS and each.value is not None), key=_kind)
    return (
        *(_of_kind(kind, list(of_kind)) for kind, of_kind in groupby(gaps, key=_kind)),
        _sentence(PLAIN, verdicts) or "What more layers do to a plain network was not measured.",
        " ".join(filter(None, (_sentence(name, verdicts) for name in (RESIDUAL, SHORTCUT))))
        or "What shortcuts change was not measured.",
        _reach(verdicts, caveats),
    )


def _sentence(name: str, verdicts: Sequence[Verdict]) -> str:
    """The result on a claim, with the numbers; empty if it was not judged."""
    verdict = next((each for each in verdicts if each.claim == name and each.verdict != NOT_MEASURED), None)
    clauses = next(claim for claim in claims() if claim.id == name).answer
    if verdict is None or clauses is None:
        return ""
    steps = f"after {formatting.thousands(verdict.steps)} steps, " if verdict.steps else ""
    numbers = _numbers(verdict.estimates)
    if verdict.verdict == "supported":
        return _capital(f"{steps}{clauses.supported}: {numbers}")
    if verdict.verdict == "contradicted":
        return _capital(f"{steps}{clauses.contradicted}: {numbers}")
    fewest = min((each.n for each in verdict.estimates), default=0)
    seeds = f"{_count(fewest)} seed{'s' * (fewest != 1)}"
    alone = " This would be enough for a verdict on this claim alone, but not among all claims judged here."
    return _capital(f"{steps}{seeds} cannot tell {clauses.open}: {numbers}") + alone * verdict.alone


def _numbers(estimates: Sequence[Estimate]) -> str:
    """Each comparison with its interval; over several arms the range of their values."""
    by_label = sorted(estimates, key=_comparison)
    groups = [list(of_label) for _, of_label in groupby(by_label, key=_comparison)]
    return "; ".join(_in_arms(group) if len(group) > 1 else _number(group[0]) for group in groups)


def _number(each: Estimate) -> str:
    """``plain 44 minus plain 8 is +14.2 points on average, 95 % interval +11.9 to +16.5, 3 seeds``."""
    if each.value is None:
        return each.sentence
    if each.low is None or each.high is None:
        value = formatting.number(each.value, each.unit, signed=True)
        why = "" if each.n == 1 else f", {each.method}"
        return f"{each.label} is {value} {each.unit}, {formatting.seeds(each.n)}{why}"
    value, low, high = formatting.with_bounds(each.value, each.low, each.high, each.unit, signed=True)
    return f"{each.label} is {value} {each.unit} on average, 95 % interval {low} to {high}, {formatting.seeds(each.n)}"


def _in_arms(estimates: Sequence[Estimate]) -> str:
    """The range of one comparison over arms; each one's sentence if some have no value."""
    values = sorted(each.value for each in estimates if each.value is not None)
    if len(values) < len(estimates):
        return "; ".join(each.sentence for each in estimates)
    first = estimates[0]
    low, high = (formatting.number(value, first.unit, signed=True) for value in (values[0], values[-1]))
    return f"{_comparison(first)} is {low} to {high} {first.unit} in the {_count(len(estimates))} arms"


def _comparison(each: Estimate) -> str:
    """The label without its arm."""
    arm = each.context.get("arm", "")
    return each.label.removesuffix(f", {arm}") if arm else each.label


def _of_kind(kind: str, gaps: Sequence[Estimate]) -> str:
    """The arms in which the gap of one kind of network is smaller or larger than in the first arm."""
    first, shallow, deep = (gaps[0].context[name] for name in ("against", "shallow", "deep"))
    smaller = [each for each in gaps if each.high is not None and each.high < 0]
    larger = [each for each in gaps if each.low is not None and each.low > 0]
    unclear = [each for each in gaps if each not in smaller and each not in larger]
    by_change = {"smaller": smaller, "larger": larger, "not clearly different": unclear}
    changes = "; ".join(f"{change} with {_listed(arms)}" for change, arms in by_change.items() if arms)
    return _capital(f"against the arm {first}, the gap between {kind} {shallow} and {kind} {deep} is {changes}")


def _listed(gaps: Sequence[Estimate]) -> str:
    """``adam (+1.0 points [0.5, 1.5]) and sgd (...)``."""
    changes = [formatting.measured(each.value or 0.0, each.low, each.high, each.unit, signed=True) for each in gaps]
    *front, last = [f"{each.context['arm']} ({change})" for each, change in zip(gaps, changes, strict=True)]
    return f"{', '.join(front)} and {last}" if front else last


def _kind(each: Estimate) -> str:
    return each.context["kind"]


def _count(number: int) -> str:
    return COUNTS[number] if number < len(COUNTS) else str(number)


def _reach(verdicts: Sequence[Verdict], caveats: Sequence[Caveat]) -> str:
    """What could change the answer, and the number of claims judged."""
    # Of several caveats of one kind (one for each arm), the first counts.
    texts = {caveat.kind: _continued(caveat.text.rstrip(".")) for caveat in reversed(caveats)}
    if "no-run" in texts:
        return _capital(texts["no-run"])
    changes = [text.format(texts[kind]) for kind, text in CHANGES.items() if kind in texts]
    opening = f"What could change this answer: {'; '.join(changes)}. " if changes else ""
    return f"{opening}Of {len(verdicts)} claims: {', '.join(f'{count} {word}' for word, count in tally(verdicts))}."


def _continued(text: str) -> str:
    """The text inside a sentence: a small first letter, except for a name such as CIFAR-10."""
    return text if text[1].isupper() else text[0].lower() + text[1:]


def _capital(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
