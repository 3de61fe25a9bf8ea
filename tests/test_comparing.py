"""Two studies side by side: differences paired where seeds are equal, and a refusal that names what must be equal."""

import json

import pytest

import degradation
from degradation.analysis import compare
from degradation.errors import UserError
from degradation.spec import Cifar10, Measure, Synthetic
from tests.made_frames import make_study

pytestmark = pytest.mark.slow


def load(root, name, **fields):
    return degradation.load(make_study(root, name, experiments=False, **fields).path)


def row(found, label):
    return next(each for each in found.rows if each.label == label)


def test_equal_seeds_are_paired_and_b_minus_a_is_the_difference(tmp_path):
    found = compare(load(tmp_path, "a"), load(tmp_path, "b", steps=320))
    final = row(found, "plain 44, training error")
    expected = [b - a for a, b in zip(final.a.values, final.b.values, strict=True)]
    assert final.difference.values == pytest.approx(expected)
    assert final.difference.seeds == (0, 1, 2)
    assert final.difference.unit == "points"
    assert found.differing["recipe.steps"] == (640, 320)
    assert "depths" in found.same


def test_other_seeds_are_compared_by_welch(tmp_path):
    found = compare(load(tmp_path, "a", seeds=(0, 1, 2)), load(tmp_path, "b", seeds=(3, 4, 6)))
    final = row(found, "plain 44, training error").difference
    assert (final.method, final.n, final.seeds) == ("Welch t", 3, ())
    assert final.note == "not paired: 3 seeds and 3 seeds"
    assert final.low < final.value < final.high
    assert found.differing["seeds"] == ([0, 1, 2], [3, 4, 6])


def test_factors_are_compared_as_a_ratio(tmp_path):
    found = compare(load(tmp_path, "a"), load(tmp_path, "b", steps=320))
    slope = row(found, "plain 44, step 0")
    assert slope.difference.value == pytest.approx(slope.b.value / slope.a.value)
    assert slope.difference.label.startswith("b over a")


def test_another_shortcut_option_may_differ_and_is_listed(tmp_path):
    found = compare(load(tmp_path, "a", shortcuts=("A",)), load(tmp_path, "b", shortcuts=("B",)))
    assert found.differing["shortcuts"] == (["A"], ["B"])
    assert row(found, "residual 44, training error").difference.value == pytest.approx(0.6, abs=0.01)


def test_one_option_is_found_among_several(tmp_path):
    found = compare(load(tmp_path, "a", shortcuts=("A",)), load(tmp_path, "b", shortcuts=("A", "C")))
    residual = [each for each in found.rows if each.a.context["network"] == "residual"]
    assert residual
    assert {each.b.context["shortcut"] for each in residual} == {"A"}


@pytest.mark.parametrize(
    ("a", "b", "field"),
    [
        ({}, {"dataset": Synthetic()}, "dataset.name"),
        ({}, {"dataset": Cifar10(validation=5000)}, "dataset.validation"),
        ({"depths": (20,)}, {"depths": (44,)}, "depths"),
        ({"networks": ("plain",)}, {"networks": ("residual",)}, "networks"),
    ],
)
def test_what_must_be_equal_and_is_not_is_refused_by_name(a, b, field, tmp_path):
    with pytest.raises(UserError, match=field):
        compare(load(tmp_path, "a", seeds=(0,), **a), load(tmp_path, "b", seeds=(0,), **b))


def test_a_study_without_a_done_run_is_refused(tmp_path):
    folder = make_study(tmp_path, "b", seeds=(0,), experiments=False)
    for run_id in folder.run_ids():
        folder.remove_run(run_id)
    with pytest.raises(UserError, match="no estimate in common"):
        compare(load(tmp_path, "a", seeds=(0,)), degradation.load(folder.path))


def test_diverged_runs_are_counted_in_the_difference(tmp_path):
    found = compare(load(tmp_path, "a"), load(tmp_path, "b", diverged={("plain", 44, 1)}))
    final = row(found, "plain 44, training error").difference
    assert final.method == "Welch t"
    assert "1 diverged in b" in final.note


def test_a_comparison_is_json(tmp_path):
    found = compare(load(tmp_path, "a", seeds=(0,)), load(tmp_path, "b", seeds=(0, 1)))
    json.dumps(found.as_json(), allow_nan=False)


def test_a_network_of_which_every_run_of_one_side_diverged_is_named(tmp_path):
    lost = [("plain", 44, seed) for seed in (0, 1, 2)]
    found = compare(load(tmp_path, "a"), load(tmp_path, "b", diverged=lost))
    assert found.left_out == ("plain 44 is excluded: no run of b is left, 3 diverged",)
    assert not any(each.label.startswith("plain 44,") and "step 0" not in each.label for each in found.rows)
    assert compare(load(tmp_path, "c"), load(tmp_path, "d")).left_out == ()


def test_studies_without_an_estimate_in_common_say_that_runs_diverged(tmp_path):
    fields = {"networks": ("plain",), "depths": (8,), "seeds": (0, 1), "measure": Measure(probes=())}
    every = [("plain", 8, 0), ("plain", 8, 1)]
    with pytest.raises(
        UserError, match=r"no estimate in common \(plain 8 is excluded: no run of b is left, 2 diverged"
    ):
        compare(load(tmp_path, "a", **fields), load(tmp_path, "b", diverged=every, **fields))
