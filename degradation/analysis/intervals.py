"""One value a seed -> mean, 95 % interval and one-sided p-values, by Student's t, Welch's t and the BCa bootstrap."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import stats

from degradation.analysis.estimates import ALL_EQUAL, ONE_SEED

LEVEL = 0.95
# Below ten values the bootstrap's intervals are too narrow (Hesterberg 2015, What Teachers Should Know About the
# Bootstrap, section 4.2): the t interval decides; the bootstrap is only shown as well, from ten seeds on.
BOOTSTRAP_FROM = 10
RESAMPLES = 9999
PAIRED, MEAN, WELCH = "paired t", "t", "Welch t"


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean and its 95 % interval; None if there is none, and ``method`` says why."""

    value: float | None
    low: float | None = None
    high: float | None = None
    method: str


def of_values(values: Sequence[float], method: str = MEAN) -> Interval:
    """Mean of one value a seed with Student's t interval (n-1 degrees of freedom).

    For differences of equal seeds it is the paired t interval. Equal values have no spread and get no interval:
    one of zero width would claim certainty from a few seeds.
    """
    if not values:
        return Interval(value=None, method="no value")
    mean = float(np.mean(values))
    if len(values) == 1:
        return Interval(value=mean, method=ONE_SEED)
    if spreadless(values):
        return Interval(value=mean, method=ALL_EQUAL)
    low, high = stats.t.interval(LEVEL, len(values) - 1, mean, _standard_error(values))
    return Interval(value=mean, low=float(low), high=float(high), method=method)


def of_difference(minuend: Sequence[float], subtrahend: Sequence[float]) -> Interval:
    """Difference of two means whose values are not paired: Welch's t interval."""
    if not minuend or not subtrahend:
        return Interval(value=None, method="no value")
    value = float(np.mean(minuend) - np.mean(subtrahend))
    if min(len(minuend), len(subtrahend)) == 1:
        return Interval(value=value, method=ONE_SEED)
    if spreadless(minuend) and spreadless(subtrahend):
        return Interval(value=value, method=ALL_EQUAL)
    errors = [_standard_error(values) for values in (minuend, subtrahend)]
    total = math.hypot(*errors)
    # Welch 1947, Satterthwaite's degrees of freedom
    freedom = total**4 / sum(e**4 / (len(v) - 1) for e, v in zip(errors, (minuend, subtrahend), strict=True))
    low, high = stats.t.interval(LEVEL, freedom, value, total)
    return Interval(value=value, low=float(low), high=float(high), method=WELCH)


def in_factors(interval: Interval) -> Interval:
    """An interval of logarithms (base 10) as one of factors: the value is the geometric mean."""
    logarithms = (interval.value, interval.low, interval.high)
    value, low, high = (None if number is None else 10.0**number for number in logarithms)
    return replace(interval, value=value, low=low, high=high)


def bootstrap(values: Sequence[float]) -> tuple[float, float] | None:
    """The BCa bootstrap interval of the mean (Efron 1987), the same for the same values; None below ten of them."""
    if len(values) < BOOTSTRAP_FROM or spreadless(values):
        return None
    resampled = stats.bootstrap([values], np.mean, confidence_level=LEVEL, n_resamples=RESAMPLES, method="BCa", rng=0)
    low, high = resampled.confidence_interval
    return float(low), float(high)


def p_beyond(values: Sequence[float], threshold: float, side: Literal["greater", "less"]) -> float:
    """One-sided p-value that the mean lies beyond the threshold; 1 if the values have no interval.

    It is below 0.025 exactly if the whole interval of ``of_values`` is beyond the threshold.
    """
    if len(values) < 2 or spreadless(values):
        return 1.0
    t = (float(np.mean(values)) - threshold) / _standard_error(values)
    return float(stats.t.sf(t if side == "greater" else -t, len(values) - 1))


def holm(ps: Sequence[float]) -> list[float]:
    """The p-values adjusted for their number (Holm 1979, A simple sequentially rejective procedure).

    The smallest of m is multiplied by m, the next by m-1, ...; none becomes smaller than the one before it.
    """
    order = np.argsort(ps, kind="stable")
    factors = len(ps) - np.arange(len(ps))
    adjusted = np.empty(len(ps))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(np.asarray(ps)[order] * factors))
    return [float(p) for p in adjusted]


def half_width_of_next(values: Sequence[float], runs: int) -> float | None:
    """Half of the 95 % interval in which the mean of ``runs`` further runs is expected; None below two values."""
    if len(values) < 2:
        return None
    spread = float(np.std(values, ddof=1))
    quantile = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1))
    return quantile * spread * math.sqrt(1 / runs + 1 / len(values))


def _standard_error(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))


def spreadless(values: Sequence[float]) -> bool:
    """Whether all values are equal up to rounding."""
    return float(np.ptp(values)) <= 1e-9 * max(1.0, float(np.max(np.abs(values))))
