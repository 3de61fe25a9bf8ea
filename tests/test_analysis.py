"""A study's analysis: the real one reads as it should, odd ones say what is missing, published values are compared."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

import degradation
from degradation.analysis import analyse
from degradation.analysis.published import published
from degradation.spec import Cifar10, Digits, Synthetic
from tests.made_frames import make_study
from tests.test_matching import change

pytestmark = pytest.mark.slow

REAL = Path(__file__).parent.parent / "reports" / "cifar10-short"


def analysis_of(root, **fields):
    return analyse(degradation.load(make_study(root, **{"experiments": False} | fields).path))


def kinds(analysis):
    return {caveat.kind for caveat in analysis.caveats}


def by_claim(analysis):
    return {verdict.claim: verdict for verdict in analysis.verdicts}


@pytest.fixture(scope="module")
def real():
    return analyse(degradation.load(REAL))


def test_the_real_study_supports_degradation_after_700_steps_and_nothing_of_converged_networks(real):
    found = by_claim(real)
    plain = found["plain-degrades"]
    assert (plain.verdict, plain.steps) == ("supported", (700,))
    assert "plain 44 minus plain 8: +23.4 points [+17.8, +29.1], 3 seeds" in plain.why
    assert found["exploding-at-initialization"].verdict == "supported"
    assert found["shortcut-lowers-error"].verdict == "not enough evidence"


def test_the_real_study_does_not_hide_that_deep_residual_networks_are_behind(real):
    residual = by_claim(real)["residual-does-not-degrade"]
    assert residual.verdict in ("contradicted", "not enough evidence")
    assert "residual 44 minus residual 8: +13.9 points" in residual.why
    assert "residual 44 minus residual 8 is +13.9 points on average, 95 % interval +4.0 to +23.8" in real.answer[1]
    assert real.answer[1].startswith("After 700 steps, three seeds cannot tell whether a deeper residual network has")


def test_the_answer_has_three_sentences_that_name_the_steps(real):
    assert len(real.answer) == 3
    assert real.answer[0].startswith("After 700 steps, a deeper plain network has the higher training error: plain 44")
    assert "nothing here is about converged networks" in real.answer[2]


def test_published_values_are_not_compared_with_700_steps(real):
    assert real.compared
    assert not any(row.comparable or row.difference is not None for row in real.compared)
    assert {row.why_not for row in real.compared} == {"700 steps, not 64,000"}


def test_an_analysis_is_json_and_the_same_each_time(real):
    text = json.dumps(real.as_json(), allow_nan=False)
    assert text == json.dumps(analyse(degradation.load(REAL)).as_json(), allow_nan=False)
    assert "plain 44 minus plain 8: +23.4 points [+17.8, +29.1], 3 seeds" in text


def interrupted(root):
    folder = make_study(root, seeds=(0, 1), experiments=False)
    for run_id in folder.run_ids()[:3]:
        folder.remove_run(run_id)
    return analyse(degradation.load(folder.path))


def empty(root):
    folder = make_study(root, seeds=(0,), experiments=False)
    for run_id in folder.run_ids():
        folder.remove_run(run_id)
    return analyse(degradation.load(folder.path))


EVERY = {(network, depth, seed) for network in ("plain", "residual") for depth in (20, 44) for seed in (0, 1, 2)}
ODD = {
    "only plain": (lambda root: analysis_of(root, networks=("plain",)), "one-network"),
    "only residual": (lambda root: analysis_of(root, networks=("residual",)), "one-network"),
    "one depth": (lambda root: analysis_of(root, depths=(20,)), "one-depth"),
    "one seed": (lambda root: analysis_of(root, seeds=(0,)), "one-seed"),
    "no probe": (lambda root: analysis_of(root, measure={"probes": ()}), "no-probe"),
    "one diverged": (lambda root: analysis_of(root, diverged={("plain", 44, 1)}), "diverged"),
    "all diverged": (lambda root: analysis_of(root, diverged=EVERY), "diverged"),
    "digits": (lambda root: analysis_of(root, dataset=Digits()), "images"),
    "small": (lambda root: analysis_of(root, dataset=Cifar10(size=8)), "images"),
    "synthetic": (lambda root: analysis_of(root, dataset=Synthetic()), "images"),
    "deep": (lambda root: analysis_of(root, depths=(20, 110)), "statistics-disagree"),
    "three shortcuts": (lambda root: analysis_of(root, shortcuts=("A", "B", "C")), "not-converged"),
    "interrupted": (interrupted, "unfinished"),
    "nothing done": (empty, "no-run"),
}


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_study_is_analysed_and_its_oddity_is_a_caveat(odd, tmp_path):
    make, kind = ODD[odd]
    found = make(tmp_path)
    assert kind in kinds(found)
    assert len(found.answer) == 3
    assert all(sentence.endswith(".") and not sentence[0].islower() for sentence in found.answer)
    json.dumps(found.as_json(), allow_nan=False)


def test_the_answer_keeps_the_capitals_of_a_name_within_its_sentence(tmp_path):
    *_, reach = analysis_of(tmp_path, dataset=Cifar10(size=8)).answer
    assert "other images (CIFAR-10 averaged to 8x8 pixels" in reach


def test_a_study_without_oddities_has_only_the_caveat_of_its_length(tmp_path):
    assert kinds(analysis_of(tmp_path)) == {"not-converged"}
    assert not kinds(analysis_of(tmp_path / "long", steps=64_000, depths=(20,))) - {"one-depth"}


def test_one_seed_decides_no_claim(tmp_path):
    found = analysis_of(tmp_path, seeds=(0,))
    assert not {verdict.verdict for verdict in found.verdicts} & {"supported", "contradicted"}
    assert "one seed: no interval" in by_claim(found)["plain-degrades"].why
    assert all(each.low is None for each in found.estimates)


def test_a_study_whose_runs_all_diverged_has_no_final_number(tmp_path):
    found = analysis_of(tmp_path, diverged=EVERY)
    assert all(each.value is None for each in found.estimates if each.name == "degradation-gap")
    assert "diverged" in by_claim(found)["plain-degrades"].why


def test_other_circumstances_and_broken_pairs_are_caveats(tmp_path):
    folder = make_study(tmp_path, seeds=(0, 1))
    first, second = [name for name in folder.run_ids() if name.startswith("residual-A-20")]
    change(folder, first, provenance={"threads": 99})
    change(folder, second, order_checksum="another")
    texts = {caveat.kind: caveat.text for caveat in analyse(degradation.load(folder.path)).caveats}
    assert "threads 2, 99" in texts["mixed-circumstances"]
    assert second in texts["not-matched"]


def test_errors_of_a_part_of_the_images_are_caveats(tmp_path):
    results = degradation.load(make_study(tmp_path, seeds=(0, 1), measure={"eval_examples": 500}).path)
    assert "first 500 images" in next(c.text for c in analyse(results).caveats if c.kind == "subset-on-the-way")
    assert "subset" not in kinds(analyse(results))
    results["curves"]["examples"] = 500
    texts = [caveat.text for caveat in analyse(results).caveats if caveat.kind == "subset"]
    assert texts[0] == "The last train error is of 500 of 50,000 images."


def test_a_run_without_its_last_clean_error_is_named(tmp_path):
    results = degradation.load(make_study(tmp_path, seeds=(0,), depths=(20,)).path)
    curves = results["curves"]
    ends = (curves["split"] == "train") & (curves["step"] == 640) & (curves["network"] == "plain")
    curves.loc[ends, "split"] = "val"
    text = next(caveat.text for caveat in analyse(results).caveats if caveat.kind == "no-clean-error")
    assert "plain-20-s0" in text
    assert "residual" not in text


def test_a_precision_that_is_not_fp32_is_a_caveat(real):
    assert "precision" in kinds(real)


def test_what_is_not_the_papers_recipe_is_a_caveat(tmp_path):
    folder = make_study(tmp_path, seeds=(0,))
    fields = folder.study()
    folder.write_study(fields | {"recipe": fields["recipe"] | {"batch": 64}})
    assert "other-recipe" in kinds(analyse(degradation.load(folder.path)))


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    made = {"steps": 64_000, "depths": (20, 44), "seeds": (0, 1, 2), "experiments": True}
    return analysis_of(tmp_path_factory.mktemp("long"), **made)


def row(analysis, name, depth):
    return next(r for r in analysis.compared if (r.published.name, r.published.depth) == (name, depth))


def test_with_the_papers_recipe_claims_of_converged_networks_are_judged_and_have_no_twin(long):
    found = by_claim(long)
    assert found["plain-degrades"].verdict != "not measured"
    assert [name for name, verdict in found.items() if verdict.steps] == ["smoother-surface"]  # needs depth 56
    assert "steps" not in long.answer[0]


def test_with_the_papers_recipe_measured_and_published_are_compared(long):
    found = row(long, "Figure 6, plain, test", 44)
    assert found.comparable
    assert found.measured.context["split"] == "test"
    assert found.difference == pytest.approx(found.measured.value / 100 - 0.113)
    response = row(long, "Figure 7, plain, middle rank", 20)
    assert response.measured.name == "response-middle"
    assert response.difference == pytest.approx(response.measured.value - 1.85)
    assert row(long, "Figure 6, plain, training before 32k", 20).measured.name == "error-before-drop"


def test_what_seeds_explain_is_within_the_interval_of_further_runs_and_the_reading(long):
    said = set()
    for found in long.compared:
        size = 100 if found.measured.unit == "percent" else 1
        spread, further = np.std(found.measured.values, ddof=1), found.published.runs
        reach = 4.302653 * spread * math.sqrt(1 / further + 1 / 3) + size * found.published.reading_error
        assert found.within_seeds == (size * abs(found.difference) <= reach)
        said.add(found.within_seeds)
    assert said == {True, False}


def test_one_seed_cannot_say_what_seeds_explain(tmp_path):
    found = analysis_of(tmp_path, steps=64_000, depths=(20,), seeds=(0,))
    assert {each.within_seeds for each in found.compared if each.comparable} == {None}


def test_a_changed_recipe_is_not_compared_and_the_field_is_named(tmp_path):
    study = make_study(tmp_path, steps=64_000, depths=(20,), seeds=(0,), dataset=Synthetic())
    found = analyse(degradation.load(study.path)).compared
    assert not any(each.comparable for each in found)
    assert all("dataset.name synthetic, not cifar10" in each.why_not for each in found)


def test_published_values_are_those_of_the_paper():
    table = {(p.name, p.depth): p for p in published()}
    assert table["Table 6", 56].value == 0.0697
    assert table["Table 6, mean of 5", 110].runs == 5
    assert table["Figure 6, plain, training", 56].split == "train_running"
    assert table["a-martyn, plain, training in evaluation mode", 20].statistics == "running"
    assert all(p.source and (p.quantity == "response" or 0 < p.value < 0.2) for p in published())
