"""What a network loses with one block, as an estimate: known shares, blocks that count, networks without room."""

import pandas as pd
import pytest

from degradation.analysis import analyse
from degradation.analysis.lesion import losses
from degradation.results import load
from tests.made_frames import make_study


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


def test_a_study_with_lesions_has_its_two_claims_judged(tmp_path):
    verdicts = {v.claim: v for v in analyse(load(make_study(tmp_path, steps=64_000).path)).verdicts}
    assert verdicts["blocks-can-be-deleted"].verdict == "supported"
    assert verdicts["plain-needs-each-block"].verdict == "supported"
    assert "residual 44" in verdicts["blocks-can-be-deleted"].why
    assert "5." in verdicts["blocks-can-be-deleted"].why  # (0.14 - 0.1) / 0.8


def test_lesions_of_a_short_schedule_say_nothing_of_converged_networks(tmp_path):
    verdicts = {v.claim: v for v in analyse(load(make_study(tmp_path).path)).verdicts}
    assert verdicts["blocks-can-be-deleted"].verdict == "not measured"
    assert verdicts["blocks-can-be-deleted-after"].verdict == "supported"
