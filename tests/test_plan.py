"""Plans: which runs a study has and how they pair."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from degradation.spec import StudySpec, flatten, grid

STUDIES = st.builds(
    StudySpec,
    depths=st.lists(st.sampled_from([8, 14, 20, 110]), min_size=1, unique=True).map(tuple),
    networks=st.lists(st.sampled_from(["plain", "residual"]), min_size=1, unique=True).map(tuple),
    shortcuts=st.lists(st.sampled_from("ABC"), min_size=1, unique=True).map(tuple),
    seeds=st.lists(st.integers(0, 5), min_size=1, unique=True).map(tuple),
)


@pytest.mark.slow
@given(STUDIES)
def test_every_run_stands_once_and_has_its_own_id(study):
    runs = grid.runs(study)
    kinds = ("plain" in study.networks) + len(study.shortcuts) * ("residual" in study.networks)
    assert len(runs) == len({run.run_id for run in runs}) == len(study.depths) * len(study.seeds) * kinds


@pytest.mark.slow
@given(STUDIES)
def test_a_matched_pair_differs_in_network_and_shortcut_and_in_nothing_else(study):
    for pair in grid.pairs(grid.runs(study)):
        plain, residual = flatten(pair.plain), flatten(pair.residual)
        assert {name for name in plain if plain[name] != residual[name]} == {"network", "shortcut"}


@given(STUDIES)
def test_a_plain_run_is_trained_once_and_compared_with_every_option(study):
    both = set(study.networks) == {"plain", "residual"}
    expected = len(study.depths) * len(study.seeds) * len(study.shortcuts) if both else 0
    assert len(grid.pairs(grid.runs(study))) == expected


def test_an_unfinished_study_holds_a_whole_grid_of_one_seed_early():
    runs = grid.runs(StudySpec(depths=(8, 20), seeds=(0, 1)))
    assert [run.seed for run in runs] == [0] * 4 + [1] * 4
    assert [run.depth for run in runs[:4]] == [20, 20, 8, 8]
