"""Results -> every estimate of a study, from each source in turn."""

from collections.abc import Callable, Iterator

from degradation.analysis.arms import best_rate, more_steps, variants
from degradation.analysis.construct import construct
from degradation.analysis.duration import duration
from degradation.analysis.errors import errors
from degradation.analysis.estimates import Estimate
from degradation.analysis.experiment_estimates import curvature, identity, landscape, paths, shatter, signal
from degradation.analysis.gradients import gradients
from degradation.analysis.lesion import lesion, reorder
from degradation.analysis.responses import responses
from degradation.analysis.runs import Runs
from degradation.analysis.runs import runs as runs_of
from degradation.analysis.speed import speed
from degradation.study.results import Results

SOURCES: tuple[Callable[[Results, Runs], Iterator[Estimate]], ...] = (
    errors,
    variants,
    more_steps,
    best_rate,
    speed,
    duration,
    responses,
    gradients,
    lesion,
    reorder,
    identity,
    shatter,
    paths,
    landscape,
    curvature,
    signal,
    construct,
)
"""Functions that make estimates. Add one here for the frames of an experiment; `claims.toml` names its estimates."""


def estimates(results: Results, runs: Runs | None = None) -> tuple[Estimate, ...]:
    """Every estimate of a study, grouped by kind; none if no run is done."""
    runs = runs_of(results) if runs is None else runs
    return tuple(estimate for source in SOURCES for estimate in source(results, runs)) if runs.every else ()
