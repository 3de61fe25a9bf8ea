"""Claims and estimates -> verdicts: whole intervals beyond thresholds, adjusted by Holm's method."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from degradation.analysis.claims import Case, Claim, cases, claims, unmeasured
from degradation.analysis.estimates import Estimate, Verdict, VerdictWord
from degradation.analysis.intervals import holm, p_beyond

ALPHA = 0.05
FAMILIES = ("the runs themselves", "experiments", "time")
"""Groups of claims whose p-values are adjusted together."""


class SingleVerdict(NamedTuple):
    """The verdict of a case's intervals on their own, and its two-sided p-value."""

    verdict: VerdictWord
    p: float


def judge(estimates: Sequence[Estimate], found: Sequence[Claim] | None = None) -> tuple[tuple[Verdict, ...], str]:
    """A verdict on every claim, and a sentence on how they are adjusted.

    A claim that rests on several estimates needs all of them beyond its threshold (an intersection-union test: the
    largest p-value counts). The p-values of the claims that can be tested are adjusted together by Holm's method
    (Holm 1979), so that the chance of even one wrong verdict among them is at most 5 %. Claims on the runs themselves,
    on experiments and on time are adjusted separately: another experiment does not weaken the verdicts on the runs.
    """
    judged = cases(claims() if found is None else found, estimates)
    leanings = {case.claim.id: _leaning(case) for case in judged if _testable(case)}
    families = [_family(judged, leanings, family) for family in FAMILIES]
    adjusted = {name: p for ps in families for name, p in zip(ps, holm(list(ps.values())), strict=True)}
    verdicts = tuple(_verdict(case, leanings.get(case.claim.id), adjusted.get(case.claim.id, 1.0)) for case in judged)
    return verdicts, _how(len(judged), [len(ps) for ps in families])


def _family(judged: Sequence[Case], leanings: Mapping[str, SingleVerdict], family: str) -> dict[str, float]:
    """Claim -> p-value, of the claims that are adjusted together."""
    names = [case.claim.id for case in judged if case.claim.family == family]
    return {name: leanings[name].p for name in names if name in leanings}


def _how(judged: int, tested: Sequence[int]) -> str:
    if not sum(tested):
        return f"None of the {judged} claims could be tested: intervals shown are 95 % each."
    counts = [f"{n} on {family}" for n, family in zip(tested, FAMILIES, strict=True) if n]
    parts = f" ({', '.join(counts)}; each group separately)" if len(counts) > 1 else ""
    where = " in a group" if parts else ""
    return (
        f"{sum(tested)} of {judged} claims could be tested; their p-values are adjusted by Holm's method{parts}, so "
        f"that the chance of even one wrong verdict{where} is at most 5 %. The intervals shown are 95 % each, not "
        "adjusted."
    )


def _testable(case: Case) -> bool:
    return case.complete and all(each.low is not None and "diverged" not in each.context for each in case.estimates)


def _leaning(case: Case) -> SingleVerdict:
    sides = [_sides(case.claim, each) for each in case.estimates]
    support, contradict = max(side[0] for side in sides), max(side[1] for side in sides)
    verdict: VerdictWord = "supported" if support < contradict else "contradicted"
    return SingleVerdict(verdict, min(1.0, 2 * min(support, contradict)))


def _sides(claim: Claim, estimate: Estimate) -> tuple[float, float]:
    """One-sided p-values that the estimate supports and that it contradicts the claim."""

    def p(threshold: float, side: Literal["greater", "less"]) -> float:
        return p_beyond(_scaled(estimate.values, estimate), _scaled([threshold], estimate)[0], side)

    if claim.supports == "within":  # two one-sided tests (Schuirmann 1987)
        inside = max(p(-claim.threshold, "greater"), p(claim.threshold, "less"))
        return inside, min(p(-claim.threshold, "less"), p(claim.threshold, "greater"))
    above, below = p(claim.threshold, "greater"), p(claim.threshold, "less")
    return (above, below) if claim.supports == "above" else (below, above)


def _scaled(values: Sequence[float], estimate: Estimate) -> list[float]:
    """Factors as logarithms, in which their intervals are symmetric."""
    return [math.log10(value) for value in values] if estimate.unit == "factor" else list(values)


def _verdict(case: Case, leaning: SingleVerdict | None, adjusted: float) -> Verdict:
    verdict, why = _judged(case, leaning, adjusted)
    return Verdict(
        claim=case.claim.id,
        statement=case.statement,
        steps=case.steps,
        source=case.claim.source,
        literature=case.claim.literature,
        verdict=verdict,
        why=why,
        threshold=threshold(case),
        estimates=case.estimates,
        needs=case.claim.needs,
        alone=leaning is not None and leaning.p < ALPHA <= adjusted,
    )


def _judged(case: Case, leaning: SingleVerdict | None, adjusted: float) -> tuple[VerdictWord, str]:
    if not case.complete:
        return "not measured", unmeasured(case.claim)
    shown = "; ".join(each.sentence for each in case.estimates)
    if leaning is None:
        return "not enough evidence", f"{shown}{_lost(case.estimates)}"
    if adjusted < ALPHA:
        return leaning.verdict, f"{shown}: {_where(case, leaning.verdict)}"
    if leaning.p < ALPHA:
        alone = leaning.verdict.removesuffix("ed")
        held = f"alone this would {alone} the claim, but not after Holm's adjustment (p = {adjusted:.2g})"
        return "not enough evidence", f"{shown}: {held}"
    return "not enough evidence", f"{shown}: {_between(case)}"


def _lost(estimates: Sequence[Estimate]) -> str:
    """What divergence does to a verdict; empty if no run diverged: the sentences give any other reason.""" ""
    lost = sum(int(each.context.get("diverged", "0")) for each in estimates)
    runs = f"{lost} run{'s' * (lost != 1)} diverged"
    return f": {runs}, so the remaining seeds are selected by their outcome" if lost else ""


def _where(case: Case, verdict: VerdictWord) -> str:
    """The position of all intervals relative to the threshold."""
    claim, unit = case.claim, case.estimates[0].unit
    edge = _edge(claim.threshold, unit)
    margin = abs(claim.threshold)
    whole = "the whole interval" if len(case.estimates) == 1 else "every whole interval"
    if claim.supports == "within":
        return f"{whole} is {'within' if verdict == 'supported' else 'outside'} ±{margin:g} {unit}"
    within = all(-margin <= _bound(each.low) and _bound(each.high) <= margin for each in case.estimates)
    if verdict == "contradicted" and within and all(each.signed for each in case.estimates):
        return f"{whole} is within ±{margin:g} {unit}: too small a difference to count"
    upper = (claim.supports == "above") == (verdict == "supported")
    return f"{whole} is {'above' if upper else 'below'} {edge}"


def _between(case: Case) -> str:
    edge = _edge(case.claim.threshold, case.estimates[0].unit)
    edge = edge.replace("+", "±") if case.claim.supports == "within" else edge
    if len(case.estimates) == 1:
        return f"the interval crosses {edge}"
    return f"the intervals are not all on one side of {edge}"


def _bound(number: float | None) -> float:
    return math.nan if number is None else number


def _edge(threshold: float, unit: str) -> str:
    if unit in ("factor", "correlation", "exponent"):
        return f"{'an' if unit == 'exponent' else 'a'} {unit} of {threshold:g}"
    if unit == "percent":
        return f"{threshold:g} %"
    return f"{threshold:+g} {unit}" if threshold else "zero"


def threshold(case: Case) -> str:
    """The threshold as text and the reason for it; empty for a claim without an estimate."""
    claim = case.claim
    if not claim.estimate:
        return ""
    unit = UNITS[claim.estimate]
    if claim.supports == "within":
        rule = f"supported if the whole interval is within ±{claim.threshold:g} {unit}, contradicted if outside"
    else:
        other = "below" if claim.supports == "above" else "above"
        edge = _edge(claim.threshold, unit)
        rule = f"supported if the whole interval is {claim.supports} {edge}, contradicted if it is {other}"
    return f"{rule} ({claim.because})"


UNITS = {
    "degradation-gap": "points",
    "shortcut-effect": "points",
    "shortcut-options": "points",
    "variant-effect": "points",
    "longer-gap": "points",
    "best-rate-gap": "factor",
    "time-exponent": "exponent",
    "time-effect": "factor",
    "final-error": "percent",
    "gradient-slope": "factor",
    "response-gap": "std",
    "response-effect": "std",
    "lesion-loss": "percent",
    "reorder-loss": "percent",
    "branch-ratio-gap": "factor",
    "branch-ratio-exponent": "exponent",
    "shatter-effect": "correlation",
    "gradient-correlation": "correlation",
    "path-length": "percent",
    "roughness-effect": "percent",
    "curvature-effect": "factor",
    "construct-gain": "points",
    "construct-drift": "points",
}
"""The unit of each estimate of a claim, to print thresholds even if nothing was measured."""
