"""Results -> every estimate of a study, from each source in turn."""

from collections.abc import Callable, Iterator

from degradation.analysis.arms import best_rate, more_steps, variants
from degradation.analysis.construct import construct
from degradation.analysis.duration import duration
from degradation.analysis.errors import errors
from degradation.analysis.estimates import Estimate
from degradation.analysis.experiment_estimates import curvature, identity, landscape, paths, shatter
from degradation.analysis.gradients import gradients
from degradation.analysis.lesion import lesion, reorder
from degradation.analysis.responses import responses
from degradation.analysis.runs import Runs, runs
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
    construct,
)
"""Functions that make estimates. Add one here for an experiment's frames; `claims.toml` names its estimates."""


def estimates(results: Results, among: Runs | None = None) -> tuple[Estimate, ...]:
    """Every estimate of a study, grouped by kind; none if no run is done."""
    found = runs(results) if among is None else among
    return tuple(estimate for source in SOURCES for estimate in source(results, found)) if found.every else ()
