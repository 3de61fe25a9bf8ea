"""What gates, orders, more steps and learning rates change is estimated between the arms that differ in them alone."""

from dataclasses import dataclass, field

import pandas as pd
import pytest

import degradation
from degradation.analysis.arms import best_rate, more_steps, variants
from degradation.analysis.duration import duration
from degradation.analysis.runs import Run, Runs, runs
from degradation.spec import StudyRecipe, StudySpec, grid
from tests.made_frames import make_study

ERRORS = {"train": "batch", "test": "running"}


@dataclass
class Trained:
    """Results of a study whose last errors (fractions) are given by a function of the run and its arm."""

    study: StudySpec
    error: object
    runs: Runs = field(init=False)
    specs: dict = field(init=False, default_factory=dict)
    rows: list = field(init=False, default_factory=list)

    def __post_init__(self):
        every = []
        for arm, each in self.study.each_arm.items():
            for spec in grid.runs(each):
                self.specs[spec.run_id] = spec
                every.append(self._run(spec, arm))
                self.rows += self._rows(spec, arm)
        ordered = sorted(every, key=lambda run: (run.arm, run.kind, run.depth, run.seed))
        self.runs = Runs(every=tuple(ordered), matched=(), first_arm=next(iter(self.study.arms), ""))

    def _run(self, spec, arm):
        named = {name: getattr(spec, name) for name in ("run_id", "network", "shortcut", "depth", "seed")}
        block = ", ".join(spec.block.changed)
        return Run(kind=spec.network, arm=arm, finished=True, steps=spec.recipe.steps, block=block, **named)

    def _rows(self, spec, arm):
        at_end = {"run_id": spec.run_id, "step": spec.recipe.steps, "examples": 100, "error": self.error(spec, arm)}
        return [at_end | {"split": split, "statistics": statistics} for split, statistics in ERRORS.items()]

    def __getitem__(self, name):
        assert name == "curves"
        return pd.DataFrame(self.rows)


def trained(error, arms, **fields):
    study = StudySpec(
        depths=(20, 44), seeds=(0, 1, 2), recipe=StudyRecipe(steps=100, warmup_steps=10), arms=arms, **fields
    )
    return Trained(study, error)


def rate(value):
    return {"recipe.learning_rate": value, "recipe.warmup_learning_rate": value / 10}


def test_a_gate_is_compared_with_the_papers_block_in_test_error():
    arms = {"identity": {}, "gate": {"block.gate": "exclusive"}, "dropped": {"block.dropout": 0.5}}
    results = trained(lambda spec, arm: 0.1 + 0.03 * (arm == "gate") + 0.001 * spec.seed * (arm == "gate"), arms)
    found = {each.label: each for each in variants(results, results.runs)}
    assert set(found) == {f"residual {depth}, gate minus identity" for depth in (20, 44)}  # dropout is no gate
    gate = found["residual 44, gate minus identity"]
    assert gate.values == pytest.approx((3.0, 3.1, 3.2))
    assert (gate.context["split"], gate.context["variant"]) == ("test", "gate")


def test_where_the_first_arm_has_another_block_nothing_is_laid_to_the_gate():
    results = trained(lambda *_: 0.1, {"gate": {"block.gate": "exclusive"}, "identity": {}})
    assert not list(variants(results, results.runs))


def test_the_gap_after_more_steps_is_that_of_the_arm_with_three_times_as_many():
    arms = {"once": {}, "twice": {"recipe.steps": 200}, "thrice": {"recipe.steps": 300}}
    results = trained(lambda spec, _: spec.depth / 1000 * 100 / spec.recipe.steps + 0.001 * spec.seed, arms)
    found = [each for each in more_steps(results, results.runs) if each.context["network"] == "plain"]
    assert [each.label for each in found] == ["plain 44 minus plain 20, thrice"]
    assert found[0].value == pytest.approx(100 * 0.024 / 3)


def test_the_best_learning_rate_is_the_one_of_the_lowest_error_at_each_depth():
    best = {20: 0.1, 44: 0.02}
    arms = {"low": rate(0.02), "middle": rate(0.05), "high": rate(0.1)}
    results = trained(lambda spec, _: abs(spec.recipe.learning_rate - best[spec.depth]), arms)
    found = {each.label: each for each in best_rate(results, results.runs)}
    plain = found["best learning rate, plain 44 over plain 20"]
    assert plain.values == pytest.approx((0.2, 0.2, 0.2))
    assert plain.low is None  # all seeds equal: no interval


@pytest.mark.parametrize(
    "arms",
    [
        {"low": rate(0.02), "high": rate(0.1)},
        {"low": rate(0.02), "middle": rate(0.05), "wide": rate(0.1) | {"width": 2}},
    ],
)
def test_two_rates_or_arms_that_differ_in_more_have_no_best_rate(arms):
    results = trained(lambda *_: 0.1, arms)
    assert not list(best_rate(results, results.runs))


@pytest.mark.slow
def test_the_time_of_a_step_grows_by_a_power_of_the_depth(tmp_path):
    results = degradation.load(make_study(tmp_path, depths=(20, 44)).path)
    frame = results["runs"].copy()
    plain = frame["network"] == "plain"
    frame["wall_seconds"] = (frame["depth"] ** 1.5).where(plain, frame["depth"] ** 1.5 * 1.25)

    class Timed:
        def __getitem__(self, name):
            return {"runs": frame}[name]

    found = {each.label: each for each in duration(Timed(), runs(results))}
    assert found["exponent of the depth, plain 20 to 44"].value == pytest.approx(1.5)
    assert found["plain 44 over residual 44"].value == pytest.approx(0.8)
