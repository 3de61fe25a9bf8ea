"""Verdicts and arm differences -> the answer to the study's question, in three or four sentences."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from degradation.analysis import formatting
from degradation.analysis.claims import claims
from degradation.analysis.estimates import VERDICTS, Caveat, Estimate, Verdict

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
    """What the arms of a study change, what plain networks do, what shortcuts change, and what is not known.

    On plain networks and shortcuts: for converged networks if these were judged, else after the steps of training.
    """
    return (
        *_of_arms([each for each in estimates if each.name == ARMS and each.value is not None]),
        _sentence(PLAIN, verdicts) or "What more layers do to a plain network was not measured.",
        " ".join(filter(None, (_sentence(name, verdicts) for name in (RESIDUAL, SHORTCUT))))
        or "What shortcuts change was not measured.",
        _reach(verdicts, caveats),
    )


def _sentence(name: str, verdicts: Sequence[Verdict]) -> str:
    """The result on a claim, with the numbers; empty if it was not judged."""
    found = next((each for each in verdicts if each.claim == name and each.verdict != "not measured"), None)
    clauses = next(claim for claim in claims() if claim.id == name).answer
    if found is None or clauses is None:
        return ""
    steps = f"after {formatting.thousands(found.steps)} steps, " if found.steps else ""
    numbers = _numbers(found.estimates)
    if found.verdict == "supported":
        return _capital(f"{steps}{clauses.supported}: {numbers}")
    if found.verdict == "contradicted":
        return _capital(f"{steps}{clauses.contradicted}: {numbers}")
    alone = (
        " This would be enough for a verdict on this claim alone, but not among all claims judged here."
        if found.alone
        else ""
    )
    return _capital(f"{steps}{_seeds(found.estimates)} cannot tell {clauses.open}: {numbers}") + alone


def _numbers(estimates: Sequence[Estimate]) -> str:
    """Each comparison with its interval; over several arms the range of their values."""
    by_label = sorted(estimates, key=_comparison)
    grouped = [list(found) for _, found in groupby(by_label, key=_comparison)]
    return "; ".join(_in_arms(found) if len(found) > 1 else _number(found[0]) for found in grouped)


def _number(each: Estimate) -> str:
    """``plain 44 minus plain 8 is +14.2 points on average, 95 % interval +11.9 to +16.5, 3 seeds``."""
    if each.value is None:
        return each.sentence
    digits = 1 if each.low is None or each.high is None else formatting.digits(each.low, each.high)
    value = formatting.number(each.value, each.unit, signed=True, digits=digits)
    if each.low is None or each.high is None:
        why = "" if each.n == 1 else f", {each.method}"
        return f"{each.label} is {value} {each.unit}, {formatting.seeds(each.n)}{why}"
    low, high = (formatting.number(bound, each.unit, signed=True, digits=digits) for bound in (each.low, each.high))
    return f"{each.label} is {value} {each.unit} on average, 95 % interval {low} to {high}, {formatting.seeds(each.n)}"


def _in_arms(found: Sequence[Estimate]) -> str:
    values = sorted(each.value for each in found if each.value is not None)
    if len(values) < len(found):
        return "; ".join(each.sentence for each in found)
    low, high = (formatting.number(value, found[0].unit, signed=True) for value in (values[0], values[-1]))
    return f"{_comparison(found[0])} is {low} to {high} {found[0].unit} in the {_count(len(found))} arms"


def _comparison(each: Estimate) -> str:
    """The label without its arm."""
    arm = each.context.get("arm", "")
    return each.label.removesuffix(f", {arm}") if arm else each.label


def _of_arms(gaps: Sequence[Estimate]) -> Iterator[str]:
    """For each kind of network, the arms in which its gap is smaller or larger than in the first; none without arms."""
    for kind, found in groupby(sorted(gaps, key=_kind), key=_kind):
        yield _of_kind(kind, list(found))


def _of_kind(kind: str, gaps: Sequence[Estimate]) -> str:
    first, shallow, deep = (gaps[0].context[name] for name in ("against", "shallow", "deep"))
    smaller = [each for each in gaps if each.high is not None and each.high < 0]
    larger = [each for each in gaps if each.low is not None and each.low > 0]
    rest = [each for each in gaps if each not in smaller and each not in larger]
    clauses = [f"smaller with {_listed(smaller)}"] if smaller else []
    clauses += [f"larger with {_listed(larger)}"] if larger else []
    clauses += [f"not clearly different with {_listed(rest)}"] if rest else []
    return _capital(
        f"against the arm {first}, the gap between {kind} {shallow} and {kind} {deep} is {'; '.join(clauses)}"
    )


def _listed(gaps: Sequence[Estimate]) -> str:
    named = [f"{each.context['arm']} ({_change(each)})" for each in gaps]
    return f"{', '.join(named[:-1])} and {named[-1]}" if len(named) > 1 else named[0]


def _change(each: Estimate) -> str:
    return formatting.measured(each.value or 0.0, each.low, each.high, each.unit, signed=True)


def _kind(each: Estimate) -> str:
    return each.context["kind"]


def _seeds(estimates: Sequence[Estimate]) -> str:
    """``three seeds``."""
    least = min((each.n for each in estimates), default=0)
    return f"{_count(least)} seed{'s' * (least != 1)}"


def _count(number: int) -> str:
    return COUNTS[number] if number < len(COUNTS) else str(number)


def _reach(verdicts: Sequence[Verdict], caveats: Sequence[Caveat]) -> str:
    """What could change the answer, and the number of claims judged."""
    texts: dict[str, str] = {}
    for caveat in caveats:  # of several of one kind (one for each arm), the first
        texts.setdefault(caveat.kind, _continued(caveat.text.rstrip(".")))
    if "no-run" in texts:
        return _capital(texts["no-run"])
    changes = [text.format(texts[kind]) for kind, text in CHANGES.items() if kind in texts]
    counts = [(word, sum(each.verdict == word for each in verdicts)) for word in VERDICTS]
    opening = f"What could change this answer: {'; '.join(changes)}. " if changes else ""
    return f"{opening}Of {len(verdicts)} claims: {', '.join(f'{count} {word}' for word, count in counts)}."


def _continued(text: str) -> str:
    """The text inside a sentence: a small first letter, except for a name such as CIFAR-10."""
    return text if text[1].isupper() else text[0].lower() + text[1:]


def _capital(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
