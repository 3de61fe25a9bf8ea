"""What is printed says no more than was measured, and fits where it stands."""

from pathlib import Path

import pytest

from degradation.analysis.errors import within_bounds
from degradation.analysis.runs import runs
from degradation.cli.console import loss_of
from degradation.figures.depth import depth, seed_look
from degradation.report.evolution import evolutions
from degradation.spec import Measure
from degradation.study.results import Results
from tests.made_estimates import made
from tests.made_frames import make_study


def test_the_interval_of_an_error_ends_where_errors_end():
    high, low = made("final-error", (99.0, 80.0, 99.0)), made("final-error", (0.0, 0.1, 5.0))
    assert high.high > 100 > within_bounds(high).low
    assert within_bounds(high).high == 100
    assert low.low < 0 == within_bounds(low).low
    assert within_bounds(high).value == high.value
    assert within_bounds(made("final-error", (5.0,))).low is None


@pytest.mark.parametrize(
    ("loss", "text"), [(0.12345, "0.1235"), (99_999.0, "99999.0000"), (1.234e30, "1.2e+30"), (float("inf"), "inf")]
)
def test_a_loss_on_its_way_to_infinity_fits_its_column(loss, text):
    assert loss_of({"loss": loss}) == text


SEES = {
    ("batch",): "Batch norm starts every response at 1.",
    ("batch", "none"): "With batch norm every response starts at 1.",
    ("none", "none"): "Watch how the responses change",
}


@pytest.mark.parametrize("norms", SEES)
def test_responses_begin_at_one_only_where_batch_norm_puts_them(tmp_path: Path, norms):
    arms = {f"{number} {norm}": {"norm": norm, "width": 1 + number} for number, norm in enumerate(norms)}
    measure = Measure(probes=("responses",))
    folder = make_study(tmp_path, depths=(8,), seeds=(0,), steps=16, networks=("residual",), arms=arms, measure=measure)
    [evolution] = evolutions(Results(folder))
    assert evolution.quantity.see.startswith(SEES[norms])


def test_runs_know_what_their_blocks_have_beside_the_papers(tmp_path: Path):
    arms = {"papers": {}, "gated": {"block": {"gate": "exclusive"}}}
    folder = make_study(tmp_path, depths=(8,), seeds=(0,), steps=16, arms=arms, measure=Measure(probes=()))
    assert {run.arm: run.block for run in runs(Results(folder)).every} == {"papers": "", "gated": "gate exclusive"}


@pytest.mark.slow
def test_the_points_of_very_many_seeds_are_small(tmp_path: Path):
    measure = Measure(probes=())
    folder = make_study(tmp_path, depths=(8, 20), seeds=range(21), steps=16, networks=("plain",), measure=measure)
    figure, _ = depth(Results(folder))
    [points] = [line for line in figure.axes[0].lines if line.get_label() == "seeds"]
    assert points.get_markersize() == seed_look(21)["markersize"] < seed_look(20)["markersize"]
