"""Costs: from two timed depths to the seconds of a study, and back to the steps of a budget."""

import pytest

from degradation.errors import UserError
from degradation.spec import Measure, StudySpec, grid
from degradation.training.cost import Costs, LinearCost, evaluated_batches

STUDY = StudySpec.model_validate({"depths": (8, 20), "recipe": {"steps": 1000}})


def costs(jobs=1, step=0.1, evaluation=0.0):
    flat = {"per_multiply_add": 0.0}
    return Costs(step=LinearCost(fixed=step, **flat), evaluation=LinearCost(fixed=evaluation, **flat), jobs=jobs)


def test_seconds_are_steps_and_evaluations_shared_by_the_jobs():
    runs = grid.runs(STUDY)
    assert costs().seconds(runs) == pytest.approx(3 + 4 * 100)
    assert costs(jobs=2).seconds(runs) == pytest.approx(3 + 2 * 100)
    assert costs(jobs=9).seconds(runs) == pytest.approx(3 + 100)  # no less than the longest
    # 1,000 steps are 2.56 epochs: one evaluation on the way (step 781) and one at the end, both statistics each.
    # 391 batches of training images and 79 of test images.
    assert evaluated_batches(runs[0]) == 2 * 2 * (391 + 79)
    assert costs().seconds([]) == 0


def test_smaller_evaluations_are_counted_on_the_way_and_at_the_end():
    for measure, batches in (
        ({"eval_examples": 1280}, 10 + 10 + 391 + 79),
        ({"final_examples": 1280}, 391 + 79 + 10 + 10),
        ({"eval_examples": 1000, "final_examples": 640}, 8 + 8 + 5 + 5),
    ):
        study = STUDY.model_copy(update={"measure": Measure(**measure)})
        assert evaluated_batches(grid.runs(study)[0]) == 2 * batches


def test_a_budget_chooses_the_most_steps_that_fit():
    chosen = costs().steps_within(STUDY, 203)
    assert chosen == 490
    assert costs().steps_within(STUDY, 10_000) == 1000  # never more than the study has


@pytest.mark.parametrize(
    "where",
    [
        {"recipe": {"steps": 1000, "warmup_steps": 205}},
        {"recipe": {"steps": 1000}, "arms": {"a": {"recipe.warmup_steps": 205}, "b": {}}},
    ],
)
def test_a_budget_chooses_no_fewer_steps_than_a_warmup_has(where):
    study = StudySpec.model_validate({"depths": (8, 20)} | where)
    runs = len(grid.runs(study))
    assert costs().steps_within(study, 3 + runs * 21.05) == 210
    with pytest.raises(UserError, match=r"^--budget: even 210 steps, as many as the warm-up has, take about \d+ s"):
        costs().steps_within(study, 3 + runs * 20.95)


def test_a_budget_in_which_nothing_fits_says_what_would():
    with pytest.raises(UserError, match=r"50 steps take about 23 s"):
        costs().steps_within(STUDY, 10)
