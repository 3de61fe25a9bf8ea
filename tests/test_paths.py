"""The gradient along a path: all paths add up to the gradient, and what a path leaves out does not matter."""

from itertools import combinations

import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from degradation import network
from degradation.experiments.experiment import Settings
from degradation.experiments.paths import PATHS, Unravelled
from tests.made_subject import set_statistics, subject

SETTINGS = Settings(examples=16, draws=1)


def passed(shortcut="A", statistics="running", silent=()):
    """Depth 14: six blocks; the branches of the silent ones (1-based) are zero."""
    torch.manual_seed(0)
    images, labels = torch.randn(6, 3, 8, 8).to(memory_format=torch.channels_last), torch.arange(6)
    made = network("residual", 14, shortcut).to(memory_format=torch.channels_last).double()
    set_statistics(made, [(images.double(), labels)])
    for block in made.layout.blocks:
        if block.number in silent:
            torch.nn.init.zeros_(made.get_submodule(block.branch).weight)
    return Unravelled(made, made.layout, images.double(), labels, statistics), made, images.double(), labels


@pytest.mark.parametrize("statistics", ["running", "batch"])
@pytest.mark.parametrize("shortcut", ["A", "C"])
def test_the_gradients_of_all_paths_add_up_to_the_networks(shortcut, statistics):
    unravelled, made, images, labels = passed(shortcut, statistics)
    every = [taken for k in range(7) for taken in combinations(range(1, 7), k)]
    total = sum(unravelled.along(taken) for taken in every)
    assert len(every) == 64
    assert torch.allclose(total, unravelled.full, rtol=1e-9)
    made.train(statistics == "batch")
    wanted = images.clone().requires_grad_()
    (own,) = torch.autograd.grad(F.cross_entropy(made(wanted), labels), wanted)
    assert torch.allclose(own, unravelled.full, rtol=1e-9)
    assert float(own.norm()) > 0


def test_a_path_through_a_branch_of_zero_carries_nothing_and_one_around_it_does():
    unravelled, *_ = passed(silent=[4])
    assert float(unravelled.along([2, 4]).norm()) == 0
    assert float(unravelled.along([2, 5]).norm()) > 0


def test_where_all_branches_are_zero_the_shortest_path_is_the_whole_gradient():
    unravelled, *_ = passed(silent=range(1, 7))
    assert torch.equal(unravelled.along([]), unravelled.full)


def test_a_network_without_shortcuts_has_one_path_through_every_block():
    made = network("plain", 8)
    with pytest.raises(ValueError, match="one path"):
        Unravelled(made, made.layout, torch.zeros(2, 3, 8, 8), torch.zeros(2, dtype=torch.int64), "running")
    one = subject("plain")
    [part] = PATHS.parts(one, SETTINGS)
    [row] = PATHS.measure(one, SETTINGS, part).to_dict("records")
    assert (row["length"], row["paths"], row["share"]) == (3, 1, 1)
    assert row["gradient_norm"] == row["full_gradient_norm"] > 0


def test_the_frame_holds_every_length_with_its_share():
    one = subject("residual")
    parts = PATHS.parts(one, SETTINGS)
    data = pd.concat([PATHS.measure(one, SETTINGS, part) for part in parts])
    assert list(data.columns) == list(PATHS.columns)
    assert data.groupby("length").size().to_dict() == {0: 1, 1: 5, 2: 5, 3: 1}
    assert data.groupby("length")["share"].first().to_dict() == {0: 0.125, 1: 0.375, 2: 0.375, 3: 0.125}
    assert (data["examples"] == 16).all()
    assert data.equals(pd.concat([PATHS.measure(one, SETTINGS, part) for part in parts]))


def test_the_shortest_and_the_longest_path_have_the_norms_of_those_paths():
    one = subject("residual")
    images, labels = next(iter(one.batches("train", 16)))
    net = one.network()
    by_hand = Unravelled(net, net.layout, images, labels, "running")
    for length, taken in ((0, []), (3, [1, 2, 3])):
        [row] = PATHS.measure(one, SETTINGS, f"length-{length:03d}").to_dict("records")
        assert row["gradient_norm"] == pytest.approx(float(by_hand.along(taken).norm()), rel=1e-5)
        assert row["full_gradient_norm"] == pytest.approx(float(by_hand.full.norm()), rel=1e-5)
    middle = PATHS.measure(one, SETTINGS, "length-001")["gradient_norm"]
    single = [float(by_hand.along([number]).norm()) for number in (1, 2, 3)]
    assert all(min(abs(norm - known) / known for known in single) < 1e-4 for norm in middle)
