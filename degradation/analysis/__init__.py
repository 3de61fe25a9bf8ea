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
    """Analyse the study's done runs; without any, the result holds only what is missing.

    Raises DamagedError if a file is damaged.
    """
    study_runs = runs(results)
    measured = estimates(results, study_runs)
    verdicts, holm = judge(measured)
    limits = caveats(results, study_runs, measured)
    return Analysis(
        answer=answer(verdicts, limits, measured),
        estimates=measured,
        verdicts=verdicts,
        compared=compare_with_published(results, study_runs, measured),
        caveats=limits,
        holm=holm,
        convergence=RULE,
    )
