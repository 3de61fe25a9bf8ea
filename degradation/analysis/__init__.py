"""Frames of a study -> estimates with intervals, verdicts on claims, published values beside measured ones, caveats."""

from degradation.analysis.findings import (
    Analysis,
    Caveat,
    Compared,
    ComparedEstimate,
    Estimate,
    Published,
    StudyComparison,
    Verdict,
)

__all__ = [
    "Analysis",
    "Caveat",
    "Compared",
    "ComparedEstimate",
    "Estimate",
    "Published",
    "StudyComparison",
    "Verdict",
]
