"""Claims and estimates -> verdicts: whole intervals beyond thresholds, adjusted by Holm's method."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from degradation.analysis.claims import Case, Claim, case_of, claims, unmeasured
from degradation.analysis.contrasts import logarithm, scaled
from degradation.analysis.estimates import NOT_MEASURED, Estimate, Verdict, VerdictWord
from degradation.analysis.intervals import holm, p_beyond

ALPHA = 0.05
FAMILIES = ("the runs themselves", "experiments", "time")
"""Groups of claims whose p-values are adjusted together."""


class SingleVerdict(NamedTuple):
    """The verdict of a case's intervals on their own, and its two-sided p-value."""

    verdict: VerdictWord
    p: float


def judge(estimates: Sequence[Estimate], subset: Sequence[Claim] | None = None) -> tuple[tuple[Verdict, ...], str]:
    """Judge every claim. Returns the verdicts, and a sentence on how they are adjusted.

    A claim that rests on several estimates needs all of them beyond its threshold (an intersection-union test: the
    largest p-value counts). The p-values of the claims that can be tested are adjusted together by Holm's method
    (Holm 1979), so that the chance of even one wrong verdict among them is at most 5 %. Claims on the runs themselves,
    on experiments and on time are adjusted separately: another experiment does not weaken the verdicts on the runs.
    """
    cases = [case_of(claim, estimates) for claim in (claims() if subset is None else subset)]
    singles = {case.claim.id: _single(case) for case in cases if _testable(case)}
    adjusted: dict[str, float] = {}
    counts = []
    for family in FAMILIES:
        names = [case.claim.id for case in cases if case.claim.family == family and case.claim.id in singles]
        adjusted |= zip(names, holm([singles[name].p for name in names]), strict=True)
        counts += [f"{len(names)} on {family}"] if names else []
    verdicts = tuple(_verdict(case, singles.get(case.claim.id), adjusted.get(case.claim.id, 1.0)) for case in cases)
    if not singles:
        return verdicts, f"None of the {len(cases)} claims could be tested: intervals shown are 95 % each."
    groups = f" ({', '.join(counts)}; each group separately)" if len(counts) > 1 else ""
    return verdicts, (
        f"{len(singles)} of {len(cases)} claims could be tested; their p-values are adjusted by Holm's method{groups}, "
        f"so that the chance of even one wrong verdict{' in a group' if groups else ''} is at most 5 %. The intervals "
        "shown are 95 % each, not adjusted."
    )


def _testable(case: Case) -> bool:
    return case.complete and all(each.low is not None and "diverged" not in each.context for each in case.estimates)


def _single(case: Case) -> SingleVerdict:
    sides = [_sides(case.claim, each) for each in case.estimates]
    support, contradict = max(side[0] for side in sides), max(side[1] for side in sides)
    verdict: VerdictWord = "supported" if support < contradict else "contradicted"
    return SingleVerdict(verdict, min(1.0, 2 * min(support, contradict)))


def _sides(claim: Claim, estimate: Estimate) -> tuple[float, float]:
    """One-sided p-values that the estimate supports and that it contradicts the claim."""

    def p(threshold: float, side: Literal["greater", "less"]) -> float:
        return p_beyond(scaled(estimate), logarithm(threshold) if estimate.unit == "factor" else threshold, side)

    if claim.supports == "within":  # two one-sided tests (Schuirmann 1987)
        inside = max(p(-claim.threshold, "greater"), p(claim.threshold, "less"))
        return inside, min(p(-claim.threshold, "less"), p(claim.threshold, "greater"))
    above, below = p(claim.threshold, "greater"), p(claim.threshold, "less")
    return (above, below) if claim.supports == "above" else (below, above)


def _verdict(case: Case, single: SingleVerdict | None, adjusted: float) -> Verdict:
    verdict, why = _word_and_reason(case, single, adjusted)
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
        alone=single is not None and single.p < ALPHA <= adjusted,
    )


def _word_and_reason(case: Case, single: SingleVerdict | None, adjusted: float) -> tuple[VerdictWord, str]:
    if not case.complete:
        return NOT_MEASURED, unmeasured(case.claim)
    sentences = "; ".join(each.sentence for each in case.estimates)
    numbers = ", ".join(filter(None, (case.claim.reads, sentences)))
    if single is None:
        count = sum(int(each.context.get("diverged", "0")) for each in case.estimates)
        diverged = f": {count} run{'s' * (count != 1)} diverged, so the remaining seeds are selected by their outcome"
        return "not enough evidence", numbers + diverged * (count > 0)  # without it the numbers give the reason
    if adjusted < ALPHA:
        return single.verdict, f"{numbers}: {_position(case, single.verdict)}"
    if single.p < ALPHA:
        support = single.verdict.removesuffix("ed")
        reason = f"alone this would {support} the claim, but not after Holm's adjustment (p = {adjusted:.2g})"
        return "not enough evidence", f"{numbers}: {reason}"
    return "not enough evidence", f"{numbers}: {_crossing(case)}"


def _position(case: Case, verdict: VerdictWord) -> str:
    """The position of all intervals relative to the threshold."""
    claim, unit = case.claim, case.estimates[0].unit
    margin = abs(claim.threshold)
    whole = "the whole interval" if len(case.estimates) == 1 else "every whole interval"
    if claim.supports == "within":
        return f"{whole} is {'within' if verdict == 'supported' else 'outside'} ±{margin:g} {unit}"
    bounds = [bound for each in case.estimates for bound in (each.low, each.high) if bound is not None]
    within = all(-margin <= bound <= margin for bound in bounds)
    if verdict == "contradicted" and within and all(each.signed for each in case.estimates):
        return f"{whole} is within ±{margin:g} {unit}: too small a difference to count"
    upper = (claim.supports == "above") == (verdict == "supported")
    side: Literal["above", "below"] = "above" if upper else "below"
    meaning = f", so {claim.means[side]}" if side in claim.means else ""
    return f"{whole} is {side} {_edge(claim.threshold, unit)}{meaning}"


def _crossing(case: Case) -> str:
    edge = _edge(case.claim.threshold, case.estimates[0].unit)
    edge = edge.replace("+", "±") if case.claim.supports == "within" else edge
    if len(case.estimates) == 1:
        return f"the interval crosses {edge}"
    return f"the intervals are not all on one side of {edge}"


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
    "isometry-effect": "factor",
    "confusion-effect": "correlation",
    "similarity-effect": "correlation",
    "construct-gain": "points",
    "construct-drift": "points",
}
"""The unit of each estimate of a claim, to print thresholds even if nothing was measured."""
