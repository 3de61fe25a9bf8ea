"""Estimates equal what is put into made-up frames, stay within an arm, and leave nothing out silently."""

import math

import numpy as np
import pandas as pd
import pytest

import degradation
from degradation.analysis import analyse
from degradation.analysis.contrasts import (
    Quantity,
    across_arms,
    across_depths,
    across_kinds,
    across_shortcuts,
    gaps_across_arms,
    levels,
)
from degradation.analysis.errors import errors, gap_curve
from degradation.analysis.estimating import estimates
from degradation.analysis.gradients import factors, gradients
from degradation.analysis.responses import responses
from degradation.analysis.runs import Run, Runs, runs
from degradation.analysis.speed import speed, steps_to
from degradation.study.pairs import Match
from tests import made_frames
from tests.made_frames import make_study
from tests.test_matching import change


def run(network="plain", depth=8, seed=0, *, shortcut="A", arm="", finished=True, steps=700, kind=None):
    shortcut = "none" if network == "plain" else shortcut
    kind = kind or network
    run_id = f"{kind}-{depth}-{seed}-{arm}"
    fields = {"network": network, "kind": kind, "shortcut": shortcut, "depth": depth, "seed": seed, "arm": arm}
    return Run(run_id=run_id, finished=finished, steps=steps, **fields)


def among(*every, holds=True, first_arm=""):
    ordered = sorted(every, key=lambda each: (each.arm, each.kind, each.depth, each.seed))
    pairs = [(p, r) for p in every for r in every if (p.network, r.network) == ("plain", "residual")]
    same = [(p, r) for p, r in pairs if (p.depth, p.seed, p.arm) == (r.depth, r.seed, r.arm)]
    proof = {"order": True, "extra_weights": "", "circumstances": ""}
    matched = [Match(plain=p.run_id, residual=r.run_id, weights=holds, **proof) for p, r in same]
    return Runs(every=tuple(ordered), matched=tuple(matched), first_arm=first_arm)


class Only:
    """Results that hold one frame."""

    def __init__(self, held):
        self.held = held

    def frame(self, name, columns):
        return self.held[["run_id", *columns]]


def points(values):
    return Quantity(
        unit="points", values={run.run_id: value for run, value in values.items()}, context={"step": "last"}
    )


def test_the_gap_is_the_mean_of_deep_minus_shallow_of_each_seed():
    errors = {run(depth=8, seed=s): e for s, e in enumerate((0.10, 0.20, 0.12))}
    errors |= {run(depth=20, seed=s): e for s, e in enumerate((0.15, 0.26, 0.18))}
    [gap] = across_depths(among(*errors), points(errors), "gap")
    assert gap.values == pytest.approx((5.0, 6.0, 6.0))
    half = 4.302653 * math.sqrt(1 / 3) / math.sqrt(3)
    assert (gap.low, gap.high) == pytest.approx((17 / 3 - half, 17 / 3 + half), abs=1e-4)
    assert gap.sentence == "plain 20 minus plain 8: +5.7 points [+4.2, +7.1], 3 seeds"
    assert gap.note == "Welch, not paired: +5.7 points [-6.8, +18.1]"


def test_every_two_depths_are_compared_and_the_widest_alone_on_request():
    errors = {run(depth=depth, seed=s): 0.01 * depth + 0.001 * s * depth for depth in (8, 20, 32) for s in (0, 1)}
    labels = [each.label for each in across_depths(among(*errors), points(errors), "gap")]
    assert labels == ["plain 20 minus plain 8", "plain 32 minus plain 8", "plain 32 minus plain 20"]
    [widest] = across_depths(among(*errors), points(errors), "gap", widest=True)
    assert widest.label == "plain 32 minus plain 8"


def test_seeds_are_paired_by_number_and_a_seed_without_its_other_is_left_out():
    errors = {
        run(depth=8, seed=1): 0.1,
        run(depth=8, seed=2): 0.2,
        run(depth=20, seed=2): 0.5,
        run(depth=20, seed=3): 0.9,
    }
    [gap] = across_depths(among(*errors), points(errors), "gap")
    assert (gap.seeds, gap.method) == ((2,), "one seed: no interval")
    assert gap.value == pytest.approx(30.0)
    assert gap.sentence == "plain 20 minus plain 8: +30.0 points, one seed: no interval"


def test_without_a_seed_in_both_there_is_no_value():
    errors = {run(depth=8, seed=1): 0.1, run(depth=20, seed=2): 0.5}
    [gap] = across_depths(among(*errors), points(errors), "gap")
    assert (gap.value, gap.n) == (None, 0)
    assert gap.sentence == "plain 20 minus plain 8: no seed in both"


def test_the_shortcut_effect_pairs_matched_runs_and_leaves_out_those_that_do_not_match():
    errors = {run("plain", seed=s): 0.5 + 0.02 * s for s in (0, 1)} | {run("residual", seed=s): 0.4 for s in (0, 1)}
    [effect] = across_kinds(among(*errors), points(errors), "effect")
    assert effect.values == pytest.approx((10.0, 12.0))
    assert effect.note == ""  # a matched pair is paired by its weights, too: Welch has no place here
    [broken] = across_kinds(among(*errors, holds=False), points(errors), "effect")
    assert (broken.value, broken.note) == (None, "no seed in both; 2 pairs excluded: not matched")


def test_one_plain_network_pairs_with_each_shortcut_option():
    errors = {run("plain"): 0.5}
    errors |= {run("residual", shortcut=o, kind=f"residual {o}"): e for o, e in (("A", 0.4), ("B", 0.3))}
    found = list(across_kinds(among(*errors), points(errors), "effect"))
    assert [each.label for each in found] == ["plain 8 minus residual A 8", "plain 8 minus residual B 8"]
    [options] = across_shortcuts(among(*errors), points(errors), "options")
    assert (options.label, options.value) == ("residual B 8 minus residual A 8", pytest.approx(-10.0))


def test_runs_are_compared_within_their_arm_only():
    arms = {"rate 0.1": 0.0, "rate 0.01": 0.3}
    errors = {
        run(depth=d, seed=s, arm=a): b + 0.01 * d + 0.01 * s * d
        for a, b in arms.items()
        for d in (8, 20)
        for s in (0, 1)
    }
    found = {each.context["arm"]: each for each in across_depths(among(*errors), points(errors), "gap")}
    assert set(found) == set(arms)
    assert [each.value for each in found.values()] == pytest.approx([18.0, 18.0])
    assert found["rate 0.1"].label == "plain 20 minus plain 8, rate 0.1"


def armed():
    """Arm z is the first: 10 and 12 at depth 8, 20 and 30 at depth 20. Arm a: 1 and 2 more at 8, 4 and 8 more at 20."""
    first = {(8, 0): 0.10, (8, 1): 0.12, (20, 0): 0.20, (20, 1): 0.30}
    more = {(8, 0): 0.01, (8, 1): 0.02, (20, 0): 0.04, (20, 1): 0.08}
    errors = {run(depth=d, seed=s, arm="z"): error for (d, s), error in first.items()}
    return errors | {run(depth=d, seed=s, arm="a"): first[d, s] + error for (d, s), error in more.items()}


def test_an_arm_is_compared_with_the_first_of_the_study_seed_by_seed():
    errors = armed() | {run(depth=32, arm="a"): 0.5}  # the first arm has no such network
    found = {each.label: each for each in across_arms(among(*errors, first_arm="z"), points(errors), "effect")}
    assert list(found) == ["plain 8, a minus z", "plain 20, a minus z"]
    assert found["plain 8, a minus z"].values == pytest.approx((1.0, 2.0))
    assert found["plain 20, a minus z"].values == pytest.approx((4.0, 8.0))
    assert found["plain 20, a minus z"].sentence.startswith("plain 20, a minus z: +6.0 points [-19.4, +31.4], 2 seeds")


def test_the_gap_of_an_arm_is_compared_with_that_of_the_first():
    errors = armed() | {run(depth=32, arm="a"): 0.5}
    [gap] = gaps_across_arms(among(*errors, first_arm="z"), points(errors), "arm-gap")
    assert gap.label == "plain 20 minus plain 8, a minus z"
    assert gap.values == pytest.approx((3.0, 6.0))  # (24 - 11) - (20 - 10), (38 - 14) - (30 - 12)
    lost = {run: error for run, error in errors.items() if (run.arm, run.depth, run.seed) != ("z", 8, 1)}
    gone = run(depth=8, seed=1, arm="z", finished=False)
    [gap] = gaps_across_arms(among(*lost, gone, first_arm="z"), points(lost), "arm-gap")
    assert (gap.seeds, gap.context["diverged"]) == ((0,), "1")


def test_without_arms_there_is_nothing_to_compare_with():
    errors = {run(depth=d, seed=s): 0.1 for d in (8, 20) for s in (0, 1)}
    assert not list(across_arms(among(*errors), points(errors), "effect"))
    assert not list(gaps_across_arms(among(*errors), points(errors), "arm-gap"))


@pytest.mark.slow
def test_a_study_with_arms_answers_what_they_change(tmp_path, monkeypatch):
    def worse(run):
        return usual(run) + (0.01 * (run.seed + 1) if run.recipe.optimizer == "adam" and run.depth == 20 else 0.0)

    usual = made_frames.final_error
    monkeypatch.setattr(made_frames, "final_error", worse)
    arms = {"sgd": {}, "adam": {"recipe": {"optimizer": "adam", "learning_rate": 0.001}}}
    folder = make_study(tmp_path, depths=(8, 20), seeds=(0, 1), networks=("plain",), arms=arms)
    said = analyse(degradation.load(folder.path)).answer[0]
    gap = "Against the arm sgd, the gap between plain 8 and plain 20 is not clearly different with adam"
    assert said == f"{gap} (+1.5 points [-4.9, +7.9])."
    plain = make_study(tmp_path, "without", depths=(8, 20), seeds=(0,))
    assert len(analyse(degradation.load(plain.path)).answer) == 3


def test_a_diverged_run_is_counted_and_named():
    errors = {run(depth=8, seed=s): 0.1 + 0.01 * s for s in (0, 1)} | {run(depth=20, seed=0): 0.4}
    [gap] = across_depths(among(*errors, run(depth=20, seed=1, finished=False)), points(errors), "gap")
    assert (gap.n, gap.context["diverged"]) == (1, "1")
    assert "diverged, left out: plain 20 seed 1" in gap.note


def test_a_number_that_is_not_finite_is_left_out_and_named():
    errors = {run(seed=0): 0.1, run(seed=1): math.nan, run(seed=2): 0.2}
    [level] = levels(among(*errors), points(errors), "level")
    assert level.seeds == (0, 2)
    assert level.note == "not finite, left out: plain 8 seed 1"


def test_factors_are_averaged_as_logarithms():
    values = {run(seed=0).run_id: 10.0, run(seed=1).run_id: 1000.0}
    quantity = Quantity(unit="factor", values=values, context={})
    [level] = levels(among(run(seed=0), run(seed=1)), quantity, "slope")
    assert level.value == pytest.approx(100.0)
    assert level.low * level.high == pytest.approx(100.0**2)
    assert level.values == pytest.approx((10.0, 1000.0))


def test_from_ten_seeds_on_the_bootstrap_stands_beside_the_t_interval():
    drawn = np.random.default_rng(0).normal(0.5, 0.02, 10)
    ten = {run(seed=s): e for s, e in enumerate(drawn)}
    nine = dict(list(ten.items())[:9])
    assert "bootstrap (BCa)" in next(levels(among(*ten), points(ten), "level")).note
    assert next(levels(among(*nine), points(nine), "level")).note == ""


def gradient_layers(slope, depth=20, jumps=(0.0, 2.0, -1.0), place=0.5):
    """Gradients of a made network: an exact slope along the layers, with jumps between stages and places."""
    n = (depth - 2) // 6
    rows = [(1, "conv1", 1)]
    rows += [
        (i + 2, f"layer{i // (2 * n) + 1}.{i % (2 * n) // 2}.conv{i % 2 + 1}", i // (2 * n) + 1) for i in range(6 * n)
    ]
    frame = pd.DataFrame(rows, columns=["layer", "name", "stage"]).assign(run_id="a", step=0)
    logs = slope * frame["layer"] + frame["stage"].map(dict(zip((1, 2, 3), jumps, strict=True)))
    return frame.assign(response_grad_rms=10 ** (logs + place * frame["name"].str.endswith("conv2")))


@pytest.mark.parametrize(("slope", "factor"), [(-0.1, 10**1.8), (0.0, 1.0), (0.1, 10**-1.8)])
def test_the_factor_across_the_network_is_that_of_the_slope_whatever_the_jumps_between_stages(slope, factor):
    [found] = factors(gradient_layers(slope))["factor"]
    assert found == pytest.approx(factor)  # first layer over last: falling gradients explode toward the input


def test_one_block_a_stage_has_no_slope_and_a_gradient_of_zero_no_factor():
    assert factors(gradient_layers(-0.1, depth=8)).empty
    layers = gradient_layers(-0.1)
    layers.loc[5, "response_grad_rms"] = 0.0
    assert factors(layers)["factor"].isna().all()


def test_the_extremes_of_the_gradient_are_those_of_each_run_after_step_0():
    seeds = [run(depth=20, seed=seed) for seed in (0, 1)]
    slopes = {0: (0.2, 0.2), 1: (-0.1, 0.0), 2: (0.1, 0.05), 700: (0.0, -0.05)}  # at step 0 steeper than ever after
    frames = [
        gradient_layers(slope).assign(run_id=each.run_id, step=step)
        for step, pair in slopes.items()
        for each, slope in zip(seeds, pair, strict=True)
    ]
    found = {each.label: each for each in gradients(Only(pd.concat(frames)), among(*seeds))}
    assert found["plain 20, step 0"].values == pytest.approx((10**-3.6, 10**-3.6))
    assert found["plain 20, smallest after step 0"].values == pytest.approx((10**-1.8, 10**-0.9))
    assert found["plain 20, largest after step 0"].values == pytest.approx((10**1.8, 10**0.9))
    assert found["plain 20, last step"].values == pytest.approx((1.0, 10**0.9))


def test_a_diverged_run_has_a_gradient_at_step_0_and_no_extreme():
    lost = run(depth=20, finished=False)
    found = list(gradients(Only(gradient_layers(-0.1).assign(run_id=lost.run_id)), among(lost)))
    assert found[0].values == pytest.approx((10**1.8,))
    assert {(each.value, each.context["diverged"]) for each in found[1:]} == {(None, "1")}


def test_steps_to_an_error_are_those_of_the_first_row_at_or_below_it():
    rows = pd.DataFrame({"run_id": list("aaabbb"), "step": [1, 2, 3] * 2, "error": [0.9, 0.5, 0.4, 0.9, 0.8, 0.7]})
    assert steps_to(rows, 0.5) == {"a": 2.0}


def test_an_error_that_a_seed_never_reached_is_censored_and_never_averaged():
    reached, never, lost = run(seed=0), run(seed=1), run(seed=2, finished=False)
    errors = {reached: (0.9, 0.4, 0.3), never: (0.9, 0.8, 0.7), lost: (0.9,)}
    rows = [
        {"run_id": each.run_id, "step": step, "split": "train_running", "error": error}
        for each, values in errors.items()
        for step, error in zip((100, 200, 700), values, strict=False)
    ]
    [found] = speed(
        {"curves": pd.DataFrame(rows)}, among(*errors)
    )  # 20, 10 and 1 %, which no run reaches, are left out
    assert (found.value, found.low, found.high, found.method, found.n) == (None, None, None, "censored", 3)
    assert found.values == (200.0,)
    assert found.sentence == (
        "plain 8 to 50 % running training error: > 700 steps in 2 of 3 seeds, 1 of which diverged; the others: 200"
    )


@pytest.mark.slow
def test_an_error_that_every_seed_reached_has_a_mean(tmp_path):
    results = degradation.load(make_study(tmp_path, depths=(20,), seeds=(0, 4)).path)
    found = {each.label: each for each in speed(results, runs(results))}["plain 20 to 20 % running training error"]
    assert (found.unit, found.n, found.value) == ("steps", 2, np.mean(found.values))


@pytest.mark.slow
def test_final_errors_are_those_of_the_last_row_and_name_split_and_statistics(tmp_path):
    results = degradation.load(make_study(tmp_path, seeds=(0, 1, 2)).path)
    found = {
        (each.name, each.label, each.context["split"], each.context["statistics"]): each
        for each in errors(results, runs(results))
    }
    plain = found["final-error", "plain 44", "train", "batch"]
    curves = results["curves"].query(
        "network == 'plain' and depth == 44 and split == 'train' and statistics == 'batch'"
    )
    assert plain.values == pytest.approx(100 * curves[curves["step"] == 640].sort_values("seed")["error"].to_numpy())
    assert plain.context["examples"] == "50,000"
    gap = found["degradation-gap", "plain 44 minus plain 20", "train", "batch"]
    assert gap.value == pytest.approx(3.84, rel=1e-3)  # 24 layers of 0.16 points each in the made frames
    assert gap.context["converged"] == "no"
    assert not any(name == "error-before-drop" for name, *_ in found)


@pytest.mark.slow
def test_on_the_papers_schedule_the_error_before_the_first_drop_is_that_of_step_32000(tmp_path):
    results = degradation.load(make_study(tmp_path, steps=64_000, depths=(20,), seeds=(0,)).path)
    [plain, _] = [each for each in estimates(results) if each.name == "error-before-drop"]
    curves = results["curves"].query("network == 'plain' and split == 'train_running' and step == 32000")
    assert plain.values == pytest.approx(100 * curves["error"])


@pytest.mark.slow
def test_the_gap_over_the_steps_ends_at_the_gap(tmp_path):
    results = degradation.load(make_study(tmp_path).path)
    curve = gap_curve(results).query("split == 'train' and kind == 'plain'")
    assert list(curve["step"]) == sorted(set(curve["step"]))
    gap = next(each for each in estimates(results) if each.label == "plain 44 minus plain 20")
    assert curve.iloc[-1]["gap"] == pytest.approx(gap.value)
    assert curve.iloc[-1]["seeds"] == 3


@pytest.mark.slow
def test_the_response_level_is_the_mean_over_layers_at_the_last_step(tmp_path):
    results = degradation.load(make_study(tmp_path, seeds=(0, 1)).path)
    frame = results["responses"].query("network == 'residual' and depth == 20 and step == 640")
    found = {(each.name, each.label): each for each in responses(results, runs(results))}
    assert found["response-level", "residual 20"].values == pytest.approx(tuple(frame.groupby("seed")["std"].mean()))
    assert found["response-middle", "residual 20"].values == pytest.approx(tuple(frame.groupby("seed")["std"].median()))
    effect = found["response-effect", "plain 20 minus residual 20"]
    assert effect.value == pytest.approx(
        found["response-level", "plain 20"].value - found["response-level", "residual 20"].value
    )


@pytest.mark.slow
def test_a_pair_whose_weights_differ_on_disk_is_left_out(tmp_path):
    folder = make_study(tmp_path, depths=(20,), seeds=(0, 1, 2))
    change(
        folder, next(name for name in folder.run_ids() if name.startswith("residual-A-20-s1")), weight_hash="another"
    )
    effect = next(each for each in estimates(degradation.load(folder.path)) if each.name == "shortcut-effect")
    assert effect.seeds == (0, 2)
    assert "1 pair excluded: not matched" in effect.note
