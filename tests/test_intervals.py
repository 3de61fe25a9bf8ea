"""Intervals have their known values, cover what they claim to cover, and are absent where nothing is known."""

import numpy as np
import pytest
from scipy import stats

from degradation.analysis import intervals
from degradation.analysis.estimates import ALL_EQUAL, ONE_SEED

SIMULATIONS = 1000


def test_the_t_interval_of_one_two_three_is_that_of_the_tables():
    found = intervals.of_values([1.0, 2.0, 3.0])
    half = 4.302653 / 3**0.5  # t(0.975, 2 degrees of freedom) times s/sqrt(n)
    assert (found.value, found.low, found.high) == pytest.approx((2.0, 2.0 - half, 2.0 + half), abs=1e-5)


def test_two_seeds_have_an_interval_of_one_degree_of_freedom():
    found = intervals.of_values([0.0, 1.0])
    assert found.high == pytest.approx(0.5 + 12.7062 * 0.5, abs=1e-3)


def test_intervals_and_p_values_are_those_of_scipys_tests():
    one, other = [3.0, 4.5, 5.1, 4.4], [1.0, 1.2, 0.7]
    welch, paired = intervals.of_difference(one, other), intervals.of_values(one)
    assert (welch.low, welch.high) == pytest.approx(stats.ttest_ind(one, other, equal_var=False).confidence_interval())
    assert (paired.low, paired.high) == pytest.approx(stats.ttest_1samp(one, 0).confidence_interval())
    for side in ("greater", "less"):
        assert intervals.p_beyond(one, 4.0, side) == pytest.approx(stats.ttest_1samp(one, 4, alternative=side).pvalue)


@pytest.mark.parametrize(("values", "method"), [([2.0], ONE_SEED), ([2.0, 2.0, 2.0], ALL_EQUAL)])
def test_one_seed_and_equal_seeds_have_a_mean_and_no_interval(values, method):
    found = intervals.of_values(values)
    assert (found.value, found.low, found.high, found.method) == (2.0, None, None, method)
    against = intervals.of_difference(values, values)
    assert (against.value, against.low, against.method) == (0.0, None, method)


def test_no_value_has_no_mean():
    assert intervals.of_values([]).value is None
    assert intervals.of_difference([1.0, 2.0], []).value is None


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_the_t_interval_covers_the_truth_in_95_of_100_studies(seeds):
    draws = np.random.default_rng(seeds).normal(5.0, 2.0, (SIMULATIONS, seeds))
    found = [intervals.of_values(list(values)) for values in draws]
    covered = np.mean([interval.low <= 5.0 <= interval.high for interval in found])
    assert covered == pytest.approx(0.95, abs=0.02)  # 3 standard errors of so many studies


@pytest.mark.slow
def test_welchs_interval_covers_the_truth_when_the_spreads_differ():
    generator = np.random.default_rng(0)
    ones, others = generator.normal(3, 0.5, (SIMULATIONS, 5)), generator.normal(1, 2.5, (SIMULATIONS, 5))
    found = [intervals.of_difference(list(one), list(other)) for one, other in zip(ones, others, strict=True)]
    assert np.mean([interval.low <= 2.0 <= interval.high for interval in found]) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("runs", [1, 5])
def test_the_mean_of_further_runs_falls_into_its_interval_in_95_of_100_studies(runs):
    draws = np.random.default_rng(runs).normal(0.0, 1.0, (SIMULATIONS, 3 + runs))
    hits = [
        abs(np.mean(values[:3]) - np.mean(values[3:])) <= intervals.half_width_of_next(list(values[:3]), runs)
        for values in draws
    ]
    assert np.mean(hits) == pytest.approx(0.95, abs=0.02)
    assert intervals.half_width_of_next([1.0], runs) is None


def test_the_bootstrap_begins_at_ten_seeds_and_repeats_itself():
    values = list(np.random.default_rng(0).normal(1.0, 0.2, 10))
    assert intervals.bootstrap(values[:9]) is None
    assert intervals.bootstrap([1.0] * 10) is None
    low, high = intervals.bootstrap(values)
    assert low < np.mean(values) < high
    assert intervals.bootstrap(values) == (low, high)


@pytest.mark.parametrize("threshold", [-3.0, 0.0, 1.0, 2.3, 2.6, 4.0])
def test_a_p_value_is_below_its_level_exactly_where_the_interval_lies_beyond_the_threshold(threshold):
    values = [1.4, 2.1, 2.4, 1.9]
    interval = intervals.of_values(values)
    assert (intervals.p_beyond(values, threshold, "greater") < 0.025) == (interval.low > threshold)
    assert (intervals.p_beyond(values, threshold, "less") < 0.025) == (interval.high < threshold)


def test_holms_adjustment_is_that_of_the_worked_example():
    assert intervals.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert intervals.holm([0.9, 0.8]) == [1.0, 1.0]
    assert intervals.holm([]) == []


def test_equal_values_decide_nothing():
    assert intervals.p_beyond([2.0, 2.0, 2.0], 0.0, "greater") == 1.0
    assert intervals.p_beyond([2.0], 0.0, "greater") == 1.0
