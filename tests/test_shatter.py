"""Correlation of input gradients: 1 for a linear network, 0 for white noise, Brownian as it is known."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from degradation.experiments import shatter
from degradation.experiments.evaluate import reestimate
from degradation.experiments.experiment import Settings
from degradation.experiments.shatter import SHATTER, correlations, input_gradients, lines
from tests.made_subject import subject

SETTINGS = Settings(examples=20, draws=1, points=2)  # fewer than the 16 distances that claims need


def test_a_linear_networks_gradients_are_alike_at_any_distance():
    torch.manual_seed(0)
    linear = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 6 * 6, 10))
    gradients = input_gradients(linear, torch.randn(9, 3, 8, 8), torch.randn(10))
    assert gradients.shape == (9, 192)
    assert torch.allclose(correlations(gradients), torch.ones(8), atol=1e-5)


def test_a_network_of_relus_has_gradients_less_alike_the_farther_apart():
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(192, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)]
    share = torch.linspace(0, 1, 33).view(-1, 1, 1, 1)
    first, last = torch.randn(2, 3, 8, 8)
    found = correlations(input_gradients(nn.Sequential(*layers), first + share * (last - first), torch.randn(10)))
    assert 0.9 < float(found[0]) < 1
    assert float(found[-1]) < float(found[7]) < float(found[0])


def test_the_gradient_is_that_of_the_combination_and_of_each_input_alone():
    torch.manual_seed(0)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(12, 10, bias=False))
    combination = torch.randn(10)
    gradients = input_gradients(linear, torch.randn(3, 3, 2, 2), combination)
    assert torch.allclose(gradients, (combination @ linear[1].weight).expand(3, -1))


def test_lines_are_straight_between_two_training_images_and_equal_in_a_pair():
    one, twin = subject("plain"), subject("residual")
    found = lines(one, SETTINGS)
    assert found.shape == (8, 17, 3, 8, 8)
    assert lines(one, Settings(examples=20, draws=1, points=5)).shape[1] == 33
    images = torch.cat([images for images, _ in one.batches("train", 20)]).flatten(1)
    for line in found.flatten(2):
        assert torch.cdist(line[[0, -1]], images).min(dim=1).values.max() < 1e-3
        assert torch.allclose(line.diff(dim=0), ((line[-1] - line[0]) / 16).expand(16, -1), atol=1e-5)
    assert torch.equal(found, lines(twin, SETTINGS))


def test_references_have_the_correlations_of_white_noise_and_brownian_motion():
    data = SHATTER.measure(subject("plain", size=16), SETTINGS, "references")
    white = data[data["source"] == "white noise"]["correlation"].to_numpy()
    brownian = data[data["source"] == "brownian"]["correlation"].to_numpy()
    known = [np.mean([np.sqrt(i / (i + lag)) for i in range(1, 18 - lag)]) for lag in range(1, 17)]
    assert np.abs(white).max() < 0.05
    assert np.allclose(brownian, known, atol=0.03)


def test_the_frame_holds_each_lag_of_every_source_and_is_equal_when_measured_again():
    one = subject("residual")
    parts = SHATTER.parts(one, SETTINGS)
    data = pd.concat([SHATTER.measure(one, SETTINGS, part) for part in parts])
    assert list(data.columns) == list(SHATTER.columns)
    assert data.groupby("source").size().to_dict() == dict.fromkeys(
        ["initial", "trained", "white noise", "brownian"], 16
    )
    assert data["correlation"].between(-1, 1).all()
    assert data["distance"].min() == 1 / 16
    assert data["distance"].max() == 1
    assert (data["examples"] == 20).all()
    assert data.equals(pd.concat([SHATTER.measure(one, SETTINGS, part) for part in parts]))


@pytest.mark.parametrize("state", ["initial", "trained"])
def test_the_rows_are_those_of_each_input_by_itself_with_statistics_that_mean_something(state):
    one = subject("residual")
    network = one.network() if state == "trained" else one.initial()
    if state == "initial":
        reestimate(one, 20, network)
        assert not torch.equal(network.bn1.running_mean, one.initial().bn1.running_mean)
    combination = shatter._combination(one, SETTINGS)
    by_hand = []
    for number, line in enumerate(lines(one, SETTINGS)):
        gradients = []
        for single in line.split(1):  # with batch norm's statistics of a batch, one input alone would have another
            single = single.requires_grad_()
            (gradient,) = torch.autograd.grad((network(single) @ combination[number]).sum(), single)
            gradients.append(gradient.flatten())
        by_hand.append(torch.nn.functional.cosine_similarity(gradients[0], gradients[-1], dim=0).item())
    rows = SHATTER.measure(one, SETTINGS, state)
    assert rows["correlation"].iloc[-1] == pytest.approx(np.mean(by_hand), abs=1e-4)
