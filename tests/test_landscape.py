"""Directions and surfaces, against a loss whose surface is known."""

import numpy as np
import pandas as pd
import torch
from torch import nn

from degradation import network
from degradation.experiments.draws import normal_like
from degradation.experiments.experiment import Settings
from degradation.experiments.landscape import LANDSCAPE, axis, filter_normalized, losses
from degradation.experiments.objective import Objective
from tests.made_subject import subject

SETTINGS = Settings(examples=20, points=2)


class Bowl:
    """The loss |w - centre|^2 of one weight tensor, as an Objective gives it."""

    def __init__(self, weight: torch.Tensor) -> None:
        self.network = nn.ParameterDict({"w": nn.Parameter(weight.clone())})
        self.centre = weight

    def loss_and_error(self) -> tuple[float, float]:
        return float(((self.network["w"].detach() - self.centre) ** 2).sum()), 0.0


def test_the_surface_of_a_quadratic_is_that_quadratic():
    bowl = Bowl(torch.zeros(3))
    directions = [{"w": torch.tensor([2.0, 0, 0])}, {"w": torch.tensor([0.0, 1, 1])}]
    points = [(x, y) for x in axis(2) for y in axis(3)]
    found = losses(bowl, directions, points)
    assert np.allclose([loss for loss, _ in found], [4 * x**2 + 2 * y**2 for x, y in points])


def test_many_points_leave_the_weights_exactly_as_they_were():
    weight = torch.randn(50)
    bowl = Bowl(weight)
    losses(bowl, [{"w": torch.randn(50)}], [(0.1 * number, 0.0) for number in range(40)])
    assert torch.equal(bowl.network["w"].detach(), weight)


def test_a_direction_has_the_norm_of_each_filter_and_leaves_gamma_beta_and_bias():
    made = network("residual", 8, "B")
    one = subject("residual")
    found = filter_normalized(made, normal_like(made, one, SETTINGS, "landscape", 1))
    for name, weight in made.named_parameters():
        if weight.ndim > 1:
            assert torch.allclose(found[name].flatten(1).norm(dim=1), weight.flatten(1).norm(dim=1), rtol=1e-4), name
        else:
            assert not found[name].any(), name


def test_scaling_a_filter_scales_its_direction():
    made = network("plain", 8)
    normal = normal_like(made, subject("plain"), SETTINGS, "landscape", 1)
    before = filter_normalized(made, normal)["conv1.weight"]
    with torch.no_grad():
        made.conv1.weight[3] *= 7
    after = filter_normalized(made, normal)["conv1.weight"]
    assert torch.allclose(after[3], 7 * before[3])
    assert torch.equal(after[2], before[2])


def test_a_pair_moves_along_the_same_numbers_and_another_seed_or_direction_does_not():
    pair = [subject("plain"), subject("residual")]
    plain, residual = (normal_like(one.network(), one, SETTINGS, "landscape", 1) for one in pair)
    assert plain.keys() == residual.keys()
    assert all(torch.equal(plain[name], residual[name]) for name in plain)
    for other in [
        normal_like(pair[0].network(), pair[0], SETTINGS, "landscape", 2),
        normal_like(pair[0].network(), pair[0], Settings(seed=1), "landscape", 1),
    ]:
        assert not torch.equal(plain["conv1.weight"], other["conv1.weight"])


def test_the_frame_holds_lines_and_surface_with_the_trained_network_in_the_middle():
    one = subject("plain")
    parts = LANDSCAPE.parts(one, SETTINGS)
    data = pd.concat([LANDSCAPE.measure(one, SETTINGS, part) for part in parts])
    assert list(data.columns) == list(LANDSCAPE.columns)
    assert data.groupby(["cut", "statistics"]).size().to_dict() == {
        ("line", "batch"): 9,
        ("line", "running"): 9,
        ("surface", "running"): 25,
    }
    objective = Objective(network=one.network(), batches=list(one.batches("train", 20)))
    middle = data[(data["x"] == 0) & (data["y"] == 0) & (data["statistics"] == "running")]
    assert len(middle) == 2
    assert np.allclose(middle["loss"], objective.loss_and_error()[0], rtol=1e-6)
    assert data["loss"].nunique() > 20
    line = data[(data["cut"] == "line") & (data["statistics"] == "running")].set_index("x")["loss"]
    along = data[(data["cut"] == "surface") & (data["y"] == 0)].set_index("x")["loss"]
    assert np.allclose(line[along.index], along)


def test_a_row_of_the_surface_is_the_same_whenever_it_is_measured():
    one = subject("residual")
    first = LANDSCAPE.measure(one, SETTINGS, "surface-03")
    LANDSCAPE.measure(one, SETTINGS, "surface-00")
    assert first.equals(LANDSCAPE.measure(one, SETTINGS, "surface-03"))


def test_a_slope_rises_in_its_own_direction():
    weight = torch.tensor([1.0, 2.0])
    plane = Bowl(weight)
    plane.loss_and_error = lambda: (float(plane.network["w"] @ torch.tensor([3.0, 10.0])), 0.0)
    directions = [{"w": torch.tensor([1.0, 0])}, {"w": torch.tensor([0.0, 1])}]
    [(ahead, _), (behind, _), (beside, _)] = losses(plane, directions, [(0.5, 0), (-0.5, 0), (0, 0.5)])
    assert (ahead, behind, beside) == (24.5, 21.5, 28.0)


def test_the_surface_has_two_directions_and_is_that_of_the_weights_set_by_hand():
    one = subject("residual")
    net = one.network()
    first, second = (filter_normalized(net, normal_like(net, one, SETTINGS, "landscape", number)) for number in (1, 2))
    assert not torch.equal(first["conv1.weight"], second["conv1.weight"])
    with torch.no_grad():
        for name, weight in net.named_parameters():
            weight += -0.5 * first[name] + 1.0 * second[name]
    known = Objective(network=net, batches=list(one.batches("train", 20))).loss_and_error()
    row = LANDSCAPE.measure(one, SETTINGS, "surface-04").set_index("x").loc[-0.5]
    assert (row["y"], row["error"]) == (1.0, known[1])
    assert row["loss"] == known[0] or abs(row["loss"] / known[0] - 1) < 1e-5
