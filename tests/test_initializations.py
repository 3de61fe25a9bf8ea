"""Initial weights: each initialization is what its source says, and the same within a pair."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from degradation.networks import network
from degradation.networks.weights import INITIALIZATIONS, delta_orthogonal, dirac, generator, orthogonal, weight_hash
from degradation.networks.weights import shared_weights as shared
from degradation.spec import Initialization

OTHERS: list[Initialization] = ["orthogonal", "delta-orthogonal", "dirac"]
SHAPES = [(16, 3, 3, 3), (16, 16, 3, 3), (32, 16, 3, 3), (32, 3, 3, 3), (32, 16, 1, 1)]


def drawn(draw, shape, seed=0):
    return torch.from_numpy(draw(generator(seed, "conv1.weight"), shape))


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("initialization", INITIALIZATIONS)
def test_shared_weights_do_not_depend_on_the_kind(initialization, width, norm):
    fields = {"seed": 3, "initialization": initialization, "width": width, "norm": norm}
    found = {
        weight_hash(shared(network(kind, 14, shortcut, **fields)))
        for kind, shortcut in [("plain", "none"), ("residual", "A"), ("residual", "B"), ("residual", "C")]
    }
    assert len(found) == 1


@pytest.mark.parametrize("initialization", INITIALIZATIONS)
def test_another_seed_and_another_initialization_give_other_weights(initialization):
    first = weight_hash(shared(network("plain", 8, initialization=initialization)))
    assert first != weight_hash(shared(network("plain", 8, initialization=initialization, seed=1)))
    others = set(INITIALIZATIONS) - {initialization}
    assert first not in {weight_hash(shared(network("plain", 8, initialization=other))) for other in others}


@pytest.mark.parametrize("initialization", OTHERS)
def test_two_layers_of_one_shape_are_drawn_apart(initialization):
    made = network("plain", 20, initialization="orthogonal")
    assert not torch.equal(made.layer1[0].conv1.weight, made.layer1[1].conv1.weight)


@pytest.mark.parametrize("shape", SHAPES)
def test_orthogonal_filters_are_orthogonal_with_the_gain_of_a_relu(shape):
    matrix = drawn(orthogonal, shape).flatten(1).double()
    products = matrix @ matrix.T if shape[0] <= matrix.shape[1] else matrix.T @ matrix
    torch.testing.assert_close(products, 2 * torch.eye(len(products), dtype=torch.float64), atol=1e-6, rtol=0)


@pytest.mark.parametrize("initialization", ["orthogonal", "delta-orthogonal"])
def test_every_convolution_of_a_network_is_drawn_so(initialization):
    for name, module in network("residual", 8, "B", initialization=initialization, width=2).named_modules():
        if isinstance(module, nn.Conv2d):
            matrix = module.weight.detach().flatten(1).double()
            matrix = matrix[:, matrix.abs().sum(0) > 0]  # the taps that are not zero by construction
            products = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
            off = products - 2 * torch.eye(len(products), dtype=torch.float64)
            assert off.abs().max() < 1e-5, name


def test_an_orthogonal_draw_is_uniform_and_not_the_factorizations():
    # Without the sign correction every diagonal entry of a Householder Q has the same sign.
    corners = [drawn(orthogonal, (4, 2, 1, 1), seed)[0, 0, 0, 0].item() for seed in range(200)]
    assert 70 < sum(corner > 0 for corner in corners) < 130
    assert np.mean(np.square(corners)) == pytest.approx(2 / 4, rel=0.25)  # each of the 4 rows carries its share


def test_orthogonal_has_the_law_of_torchs_own():
    ours = torch.stack([drawn(orthogonal, (16, 3, 3, 3), seed) for seed in range(50)])
    theirs = torch.stack([nn.init.orthogonal_(torch.empty(16, 3, 3, 3), gain=math.sqrt(2)) for _ in range(50)])
    assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.02)


@pytest.mark.parametrize("shape", [(16, 16, 3, 3), (32, 16, 3, 3), (16, 3, 3, 3)])
def test_delta_orthogonal_weights_keep_the_norm_of_every_pixel_but_for_the_gain(shape):
    weight = drawn(delta_orthogonal, shape)
    centre = weight[:, :, 1, 1].clone()
    weight[:, :, 1, 1] = 0
    assert not weight.any()
    weight[:, :, 1, 1] = centre
    x = torch.randn(2, shape[1], 5, 5)
    norms = nn.functional.conv2d(x, weight, padding=1).norm(dim=1) / x.norm(dim=1)
    torch.testing.assert_close(norms, torch.full_like(norms, math.sqrt(2)))


@pytest.mark.parametrize("shape", [(16, 16, 3, 3), (32, 16, 3, 3), (16, 3, 3, 3), (32, 16, 1, 1)])
def test_dirac_filters_copy_their_channels_and_the_rest_are_drawn_as_he_does(shape):
    weight = drawn(dirac, shape)
    x = torch.randn(2, shape[1], 5, 5)
    y = nn.functional.conv2d(x, weight, padding=shape[2] // 2)
    assert torch.equal(y[:, : shape[1]], x)
    rest = weight[shape[1] :]
    assert torch.equal(rest, drawn(INITIALIZATIONS["he"], shape)[shape[1] :])
    assert (rest.flatten(1).norm(dim=1) > 0).all()


def test_dirac_weights_are_those_of_torch_where_filters_and_channels_are_as_many():
    assert torch.equal(drawn(dirac, (16, 16, 3, 3)), nn.init.dirac_(torch.empty(16, 16, 3, 3)))


def test_a_plain_dirac_network_without_a_norm_passes_its_activations_on():
    # He et al. 2015, section 1: added layers that are identities make a deeper network that is no worse.
    made = network("plain", 32, norm="none", initialization="dirac")
    x = torch.rand(2, 16, 8, 8)
    assert torch.equal(made.layer1(x), x)


@pytest.mark.parametrize("initialization", OTHERS)
def test_the_linear_layer_is_drawn_as_ever(initialization):
    assert torch.equal(network("plain", 8, initialization=initialization).fc.weight, network("plain", 8).fc.weight)
