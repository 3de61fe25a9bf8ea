"""Estimates from the frames of experiments: known losses, path lengths, surfaces, Hessians and made networks."""

import math
from itertools import groupby

import numpy as np
import pandas as pd
import pytest

from degradation.analysis import analyse
from degradation.analysis import lesion as lesions
from degradation.analysis.construct import changes
from degradation.analysis.estimating import estimates
from degradation.analysis.experiment_estimates import path_lengths, roughness
from degradation.study.results import load
from tests.made_frames import make_study

SURFACE = np.linspace(-1, 1, 9)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A made-up study of converged networks in which 20 layers are deepened to the 32 that it has as well."""
    return load(make_study(tmp_path_factory.mktemp("made"), steps=64_000, depths=(20, 32, 44)).path)


@pytest.fixture(scope="module")
def by_label(made):
    return {(each.name, each.label, *sorted(each.context.items())): each for each in estimates(made)}


def found(by_label, name, label, **context):
    fitting = [e for key, e in by_label.items() if key[:2] == (name, label) and context.items() <= e.context.items()]
    assert len(fitting) == 1, [key[:2] for key in by_label if key[0] == name]
    return fitting[0]


def losses(rows: pd.DataFrame) -> dict[str, float]:
    return lesions.losses(rows, (rows["kind"] == "single") & (rows["keeps_shape"] == 1))


def rows(**errors: float) -> pd.DataFrame:
    """One run: the whole network, then single blocks (a name beginning with ``down`` changes the shape)."""
    made = [{"kind": "intact", "keeps_shape": 1, "error": errors.pop("whole")}]
    made += [{"kind": "single", "keeps_shape": int(name[:4] != "down"), "error": e} for name, e in errors.items()]
    return pd.DataFrame([{"run_id": "r"} | row for row in made])


@pytest.mark.parametrize(("without", "share"), [(0.1, 0.0), (0.5, 0.5), (0.9, 1.0), (0.02, -0.1)])
def test_the_loss_is_the_share_of_the_way_to_chance(without, share):
    assert losses(rows(whole=0.1, a=without)) == {"r": pytest.approx(share)}


def test_it_is_a_mean_over_the_blocks_that_keep_their_shape_and_could_be_deleted():
    assert losses(rows(whole=0.1, a=0.3, b=0.5, c=float("nan"), down=0.9)) == {"r": pytest.approx(0.375)}


def test_a_network_no_better_than_chance_has_nothing_to_lose():
    assert losses(rows(whole=0.9, a=0.9)) == {}


@pytest.mark.slow
def test_a_single_exchange_is_what_reordering_is_judged_by(by_label):
    # errors 0.1, 0.2 after one exchange, 0.5 after four
    loss = found(by_label, "reorder-loss", "residual 44", statistics="running")
    assert loss.value == pytest.approx(100 * 0.1 / 0.8, rel=0.01)


# Paths


def paths_of(factor: float, blocks: int) -> pd.DataFrame:
    """Paths whose gradient falls by the factor with each block, in two draws around it."""
    rows = [
        {"run_id": "r", "length": k, "gradient_norm": spread * factor**k, "share": math.comb(blocks, k) / 2**blocks}
        for k in range(blocks + 1)
        for spread in (0.5, 2.0)
    ]
    return pd.DataFrame(rows).assign(blocks=blocks)


@pytest.mark.parametrize(("factor", "length"), [(1.0, 1.0), (0.25, 0.4), (4.0, 1.6)])
def test_paths_weighted_by_their_gradient_have_the_mean_length_of_a_binomial(factor, length):
    # C(n, k) r^k is Binomial(n, r / (1 + r)): its mean over n / 2 is 2 r / (1 + r).
    assert path_lengths(paths_of(factor, 21)) == {"r": pytest.approx(length)}


# Landscape


def surface(height) -> pd.DataFrame:
    """A surface whose loss is the exponential of a height."""
    x, y = (axis.ravel() for axis in np.meshgrid(SURFACE, SURFACE))
    return pd.DataFrame({"x": x, "y": y, "loss": np.exp(height(x, y))})


@pytest.mark.parametrize(
    "height", [lambda x, y: 3 * x**2 + y**2, lambda x, y: x + 2 * y, lambda x, y: np.abs(x - 0.5), lambda x, y: -x]
)
def test_a_valley_a_slope_and_a_kink_have_no_roughness(height):
    assert roughness(surface(height)) == pytest.approx(0, abs=1e-9)


def test_a_ridge_within_a_valley_is_its_height_up_and_down():
    # Along x: 2 at the ends, 0 at +-0.5, 1 in the middle: 2 + 1 + 1 + 2 where one valley would take 4. Across: flat.
    ridge = {-1.0: 2.0, -0.75: 1.0, -0.5: 0.0, -0.25: 0.5, 0.0: 1.0}
    for across in (lambda x, y: x, lambda x, y: y):
        rows = surface(lambda x, y, across=across: np.array([ridge[-abs(each)] for each in across(x, y)]))
        assert roughness(rows) == pytest.approx(0.5)


def test_losses_that_are_not_finite_count_as_the_highest_and_a_flat_surface_has_no_roughness():
    rows = surface(lambda x, y: 3 * x**2)
    rows.loc[rows["x"].abs() == 1, "loss"] = [np.inf, np.nan] * 9
    assert roughness(rows) == pytest.approx(0)
    assert math.isnan(roughness(surface(lambda x, y: 0 * x)))


def test_roughness_is_compared_within_a_pair(by_label):
    # The made surfaces are bowls.
    assert found(by_label, "roughness-effect", "plain 44 minus residual 44").value == pytest.approx(0, abs=1e-9)


# Curvature, gradients, branches


def test_the_curvature_of_plain_over_residual_is_a_factor(by_label):
    # made: top eigenvalue 10 depth in plain, 50 in residual networks; trace 20 times that, and half more for two draws
    assert found(
        by_label, "curvature-effect", "plain 44 over residual 44, largest eigenvalue", quantity="top"
    ).value == pytest.approx(8.8)
    trace = found(by_label, "curvature-effect", "plain 44 over residual 44, trace", quantity="trace").value
    assert trace == pytest.approx((20 * 440 + 0.5) / (20 * 50 + 0.5))


def test_correlations_are_those_of_inputs_a_sixteenth_of_the_way_apart(by_label, made):
    start = found(by_label, "gradient-correlation", "plain 44, at initialization", source="initial")
    assert start.value == pytest.approx(0.5**44)
    assert found(by_label, "gradient-correlation", "residual 44, trained", source="trained").value == pytest.approx(0.9)
    effect = found(by_label, "shatter-effect", "plain 44 minus residual 44, at initialization", source="initial")
    assert effect.value == pytest.approx(0.5**44 - 44**-0.5)
    assert not [key for key in by_label if key[0] == "gradient-correlation" and dict(key[2:])["source"] == "brownian"]


def test_signals_of_plain_and_residual_networks_are_compared_in_either_state(by_label):
    # made: condition 10^(0.1 depth) in plain, 10^0.4 in residual networks, half the exponent when trained
    condition = found(by_label, "isometry-effect", "plain 44 over residual 44, condition of the Jacobian, trained")
    assert condition.value == pytest.approx(10**2)
    initial = "plain 44 minus residual 44, least cosine of gradients, at initialization"
    assert found(by_label, "confusion-effect", initial).value == pytest.approx(-0.02 * 40)
    alike = found(by_label, "similarity-effect", "plain 44 minus residual 44, mean CKA of layers, trained")
    assert alike.value == pytest.approx(0.1)


def test_branches_are_compared_between_depths_as_a_factor(by_label):
    assert found(by_label, "branch-ratio-gap", "residual 44 over residual 20").value == pytest.approx(1)


# Made networks


def test_what_making_and_training_on_change_is_deep_minus_shallow():
    rows = [
        {"run_id": "r", "made": made, "step": step, "statistics": statistics, "error": error}
        for statistics, more in (("running", 0.0), ("batch", 0.5))
        for made, errors in (("shallow", (0.1, 0.2, 0.3)), ("deep", (0.15, 0.9, 0.34 + more)))
        for step, error in zip((0, 30, 60), errors, strict=True)
    ]
    assert changes(pd.DataFrame(rows), "running").loc["r"].to_dict() == pytest.approx({"first": 0.05, "last": 0.04})
    assert changes(pd.DataFrame(rows), "batch").at["r", "last"] == pytest.approx(0.54)


def test_the_gain_is_over_the_network_of_the_made_depth_that_was_trained_from_scratch(by_label, made):
    curves = made["curves"].query("split == 'train' and statistics == 'running' and step == 64_000")
    errors = curves.groupby(["network", "depth"])["error"].mean()
    gain = found(by_label, "construct-gain", "plain 20 made into 32")
    assert gain.value == pytest.approx(100 * (errors["plain", 32] - errors["plain", 20]))
    assert gain.n == 3
    assert not [key for key in by_label if key[:2] == ("construct-gain", "plain 44 made into 56")]  # no 56 was trained


def test_the_drift_is_that_of_the_last_step(by_label):
    # made: 0.002 a step in plain networks
    assert found(by_label, "construct-drift", "plain 44 made into 56", statistics="batch").value == pytest.approx(12)
    drift = found(by_label, "construct-drift", "residual 44 made into 56", statistics="running")
    assert (drift.value, drift.context["further_steps"]) == (pytest.approx(0), "60")


# Their claims


def test_estimates_of_one_kind_stand_together(made):
    names = [name for name, _ in groupby(each.name for each in estimates(made))]
    assert len(names) == len(set(names))
    assert {"shatter-effect", "path-length", "construct-drift"} < set(names)


def test_experiments_of_a_converged_study_have_their_claims_judged(made):
    verdicts = {v.claim: v for v in analyse(made).verdicts}
    judged = ("blocks-can-be-deleted", "plain-needs-each-block", "short-paths", "shattered-gradients", "depth-can-copy")
    assert {verdicts[name].verdict for name in judged} <= {"supported", "contradicted", "not enough evidence"}
    assert verdicts["blocks-can-be-deleted"].verdict == "supported"
    assert "residual 44" in verdicts["blocks-can-be-deleted"].why
    assert "5." in verdicts["blocks-can-be-deleted"].why  # (0.14 - 0.1) / 0.8
    assert verdicts["smoother-surface"].steps  # of converged networks it speaks from 56 layers on


@pytest.mark.slow
def test_experiments_on_a_short_schedule_say_nothing_of_converged_networks(tmp_path):
    verdicts = {v.claim: v for v in analyse(load(make_study(tmp_path).path)).verdicts}
    found = verdicts["blocks-can-be-deleted"]
    assert (found.verdict, found.steps) == ("supported", (640,))
    assert verdicts["smoother-surface"].steps == (640,)
