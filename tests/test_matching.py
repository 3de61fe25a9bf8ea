"""The proof that pairs match is read from what was measured, and fails where it should."""

import hashlib
import json

import pytest

from degradation.store import FACTS
from degradation.study.pairs import matches, sentence
from tests.made_frames import make_study


def change(folder, run_id, **facts):
    """A run whose facts are others, and which is undamaged."""
    kept = json.loads(folder.file(run_id, FACTS))
    kept["provenance"] = kept["provenance"] | facts.pop("provenance", {})
    data = json.dumps(kept | facts).encode()
    (folder.run_path(run_id) / FACTS).write_bytes(data)
    done = folder.done(run_id)
    done["files"][FACTS] = hashlib.sha256(data).hexdigest()
    (folder.run_path(run_id) / "done.json").write_text(json.dumps(done))


@pytest.fixture
def folder(tmp_path):
    return make_study(tmp_path, depths=(8,), seeds=(0, 1))


def study_of(folder):
    from degradation.study.library import stored

    return stored(folder)


def residual(folder):
    return next(run_id for run_id in folder.run_ids() if run_id.startswith("residual"))


@pytest.mark.slow
def test_pairs_with_equal_hashes_hold(folder):
    found = matches(folder, study_of(folder))
    assert [match.holds for match in found] == [True, True]
    assert sentence(found) == "2 matched pairs: equal initial weights; equal order, crops and flips of every image"


@pytest.mark.slow
@pytest.mark.parametrize("fact", ["weight_hash", "order_checksum"])
def test_a_pair_with_another_hash_is_named_as_not_matched(folder, fact):
    change(folder, residual(folder), **{fact: "another"})
    found = matches(folder, study_of(folder))
    assert [match.holds for match in found].count(False) == 1
    assert sentence(found).startswith("NOT MATCHED")
    assert residual(folder) in sentence(found)


@pytest.mark.slow
def test_the_order_of_a_diverged_run_is_left_open(folder):
    change(folder, residual(folder), order_checksum="another", diverged_step=7)
    [match] = [match for match in matches(folder, study_of(folder)) if match.order is None]
    assert match.holds
    assert "1 that diverged" in sentence((match,))


@pytest.mark.slow
def test_other_circumstances_are_said(folder):
    change(folder, residual(folder), provenance={"threads": 99})
    assert "threads" in sentence(matches(folder, study_of(folder)))


@pytest.mark.slow
def test_without_a_done_pair_there_is_no_sentence(tmp_path):
    folder = make_study(tmp_path, depths=(8,), networks=("plain",))
    assert sentence(matches(folder, study_of(folder))) == ""
