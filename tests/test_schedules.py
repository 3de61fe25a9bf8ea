"""Schedules: when rows fall."""

from hypothesis import given
from hypothesis import strategies as st

from degradation.spec import schedules

STEPS = st.integers(1, 100_000)


@given(STEPS)
def test_the_default_cadence_has_first_and_last_and_about_a_hundred_rows_at_most(steps):
    points = schedules.default(steps)
    assert points[0] == 0
    assert points[-1] == steps
    assert list(points) == sorted(set(points))
    assert len(points) <= 95


def test_the_default_cadence_is_log_spaced_to_a_thousand_and_then_linear():
    points = schedules.default(64_000)
    assert points[:6] == (0, 1, 2, 3, 4, 6)
    assert [point for point in points if point > 1000] == list(range(2000, 64_001, 1000))


@given(STEPS, st.integers(1, 5000))
def test_every_n_has_its_multiples_and_the_last(steps, interval):
    assert set(schedules.every(interval, steps)) == {*range(0, steps + 1, interval), steps}


def test_at_keeps_what_lies_within():
    assert schedules.at((5, 3, 90), 10) == (0, 3, 5, 10)


def test_there_is_no_evaluation_before_the_first_update():
    assert schedules.evaluations(5, 12, 3.0) == (5, 10, 12)


def test_without_an_interval_evaluations_are_two_epochs_apart_or_more():
    assert schedules.evaluations(None, 64_000, 390.6)[:2] == (4000, 8000)
    assert schedules.evaluations(None, 700, 390.6) == (700,)
