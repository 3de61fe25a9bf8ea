"""Frames of a study -> estimates with intervals, verdicts on claims, comparison with published values, caveats."""

from degradation.analysis.answer import answer
from degradation.analysis.caveats import caveats
from degradation.analysis.compare import compare
from degradation.analysis.convergence import RULE
from degradation.analysis.errors import gap_curve
from degradation.analysis.estimates import (
    Analysis,
    Caveat,
    Compared,
    ComparedEstimate,
    Estimate,
    Published,
    StudyComparison,
    Verdict,
)
from degradation.analysis.estimating import estimates
from degradation.analysis.published import compare_with_published
from degradation.analysis.runs import runs
from degradation.analysis.verdicts import judge
from degradation.study.results import Results

__all__ = [
    "Analysis",
    "Caveat",
    "Compared",
    "ComparedEstimate",
    "Estimate",
    "Published",
    "StudyComparison",
    "Verdict",
    "analyse",
    "compare",
    "gap_curve",
]


def analyse(results: Results) -> Analysis:
    """The results of the study's done runs; without any, only what is missing.

    Raises DamagedError if a file is damaged.
    """
    among = runs(results)
    found = estimates(results, among)
    verdicts, holm = judge(found)
    noted = caveats(results, among, found)
    return Analysis(
        answer=answer(verdicts, noted, found),
        estimates=found,
        verdicts=verdicts,
        compared=compare_with_published(results, among, found),
        caveats=noted,
        holm=holm,
        convergence=RULE,
    )
