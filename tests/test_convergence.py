"""A run has converged where its loss stands still at the full and at the lowest rate, and not only at the lowest."""

import math

import pandas as pd
import pytest

import degradation
from degradation.analysis.convergence import SHARE, lacking, lacks
from degradation.spec import StudyRecipe, StudySpec, grid
from tests.made_frames import make_study

GUESSING = math.log(10)
FLAT = dict.fromkeys(range(100, 1001, 100), 0.5)


def spec(steps=1_000, warmup=100):
    study = StudySpec(depths=(8,), seeds=(0,), recipe=StudyRecipe(steps=steps, warmup_steps=warmup))
    return grid.runs(study)[0]


def rows(losses):
    return pd.DataFrame({"step": list(losses), "loss": list(losses.values())})


def said(losses, *, status="finished", **recipe):
    return lacks(spec(**recipe), status, rows(losses))


def test_a_loss_that_stands_still_has_converged():
    assert said(FLAT) == ""


def test_a_loss_that_falls_at_the_full_rate_has_not_though_it_stands_still_at_the_end():
    falling = FLAT | {300: 0.5 + 2 * SHARE * GUESSING}
    assert said(falling) == "its loss changed by 4.0 % of that of guessing in the second quarter of the steps"


@pytest.mark.parametrize("sign", [1, -1])
def test_a_loss_that_moves_at_the_end_has_not_converged_up_or_down(sign):
    moving = FLAT | {800: 0.5 + sign * 1.2 * SHARE * GUESSING}
    assert said(moving) == "its loss changed by 2.4 % of that of guessing in the last quarter of the steps"


def test_just_under_the_share_has_converged():
    assert said(FLAT | {300: 0.5 + 0.98 * SHARE * GUESSING}) == ""


def test_a_row_counts_by_the_steps_that_it_is_the_mean_of():
    # First half of the second quarter: 70 steps (300 to 370) at 0.5, 5 steps at 0.5 + x; unweighted it would be x / 2.
    late = dict.fromkeys((100, 200, 300, 370, 500, 800, 900, 1000), 0.5) | {375: 0.5 + 10 * SHARE * GUESSING}
    assert said(dict(sorted(late.items()))) == ""


def test_what_happens_before_a_quarter_of_the_steps_and_between_the_quarters_does_not_matter():
    assert said(FLAT | {100: 9.0, 200: 2.0, 600: 0.1, 700: 5.0}) == ""


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"status": "diverged"}, "it diverged"),
        ({"warmup": 251}, "its warm-up takes 251 of 1,000 steps, more than a quarter"),
    ],
)
def test_what_a_run_lacks_is_named(changes, why):
    assert said(FLAT, **changes) == why


def test_a_quarter_without_rows_is_not_called_converged():
    assert said({100: 0.5, 500: 0.5, 1000: 0.5}) == "too few rows of the second quarter of its steps"
    assert said({}) == "too few rows of the second quarter of its steps"


@pytest.mark.slow
def test_each_run_of_a_study_is_judged_by_its_own_rows(tmp_path):
    for steps, converged in ((640, False), (64_000, True)):
        results = degradation.load(make_study(tmp_path / str(steps), steps=steps, depths=(20,)).path)
        assert {not why for why in lacking(results).values()} == {converged}
        assert set(lacking(results)) == set(results.run_ids)
