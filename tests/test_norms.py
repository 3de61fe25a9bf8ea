"""Networks without batch norm: wrong forward passes fail, and residual activations stay bounded."""

import math

import pytest
import torch
from torch import nn

from degradation.networks import network
from degradation.networks.norms import branch_scale
from degradation.networks.weights import shared_weights
from degradation.probes import Taps
from degradation.spec import Initialization
from degradation.spec.grid import parameters

KINDS = [("plain", "none"), ("residual", "A"), ("residual", "B"), ("residual", "C")]
INITIALIZATIONS: list[Initialization] = ["he", "orthogonal", "delta-orthogonal", "dirac"]


def branch_held_at(kind, shortcut, value):
    """The first block's output where its second convolution gives ``value`` everywhere, for an input of 0.25."""
    block = network(kind, 8, shortcut, norm="none").layer1[0]
    with torch.no_grad():
        block.conv2.weight.zero_()
        block.conv2.bias.fill_(value)
        return block(torch.full((1, 16, 4, 4), 0.25))


def test_a_residual_block_adds_its_branch_divided_by_the_root_of_the_number_of_blocks():
    # Depth 8 has three blocks. An unscaled branch of -0.25 would leave 0; no shortcut neither.
    expected = torch.full((1, 16, 4, 4), 0.25 - 0.25 / math.sqrt(3))
    torch.testing.assert_close(branch_held_at("residual", "A", -0.25), expected)
    assert branch_held_at("residual", "A", -0.5).abs().max() == 0  # the ReLU comes after the addition


def test_a_plain_block_is_its_branch_unscaled():
    assert torch.equal(branch_held_at("plain", "none", 0.5), torch.full((1, 16, 4, 4), 0.5))
    assert branch_held_at("plain", "none", -0.25).abs().max() == 0


@pytest.mark.parametrize(("kind", "shortcut"), KINDS)
def test_a_network_without_a_norm_has_none_and_biases_of_zero(kind, shortcut):
    made = network(kind, 8, shortcut, norm="none")
    assert not [module for module in made.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in made.modules():
        if isinstance(module, nn.Conv2d):
            assert module.bias is not None
            assert not module.bias.any()
    assert sum(weight.numel() for weight in made.parameters()) == parameters(8, shortcut, norm="none")


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize(("kind", "shortcut"), KINDS)
def test_the_branch_of_the_layout_is_what_is_added_to_its_shortcut(kind, shortcut, norm):
    # At initialization the last block's output is ReLU(branch + shortcut): with an unscaled branch it would not be.
    made = network(kind, 14, shortcut, norm=norm)
    names = [name for block in made.layout.blocks for name in (block.name, block.branch, block.shortcut) if name]
    with torch.no_grad(), Taps(made, names) as taps:
        made(torch.rand(4, 3, 16, 16))
    for block in made.layout.blocks:
        total = taps.outputs[block.branch] + (taps.outputs[block.shortcut] if block.shortcut else 0)
        torch.testing.assert_close(taps.outputs[block.name], total.relu())


def test_a_response_without_a_norm_is_the_output_of_its_convolution():
    made = network("residual", 8, norm="none")
    with torch.no_grad():
        made.layer2[0].conv1.bias.fill_(3.0)
    layer = next(layer for layer in made.layout.layers if layer.name == "layer2.0.conv1")
    with torch.no_grad(), Taps(made, [layer.response, "layer1"]) as taps:
        made(torch.rand(2, 3, 16, 16))
    weight = made.layer2[0].conv1.weight
    convolved = nn.functional.conv2d(taps.outputs["layer1"], weight, stride=2, padding=1) + 3.0
    torch.testing.assert_close(taps.outputs[layer.response], convolved)


@pytest.mark.parametrize("initialization", INITIALIZATIONS)
@pytest.mark.parametrize("depth", [56, 110])
def test_activations_of_a_residual_network_without_a_norm_stay_below_e_times_the_first(initialization, depth):
    sizes = activations(network("residual", depth, norm="none", initialization=initialization))
    assert max(sizes) < math.e * sizes[0]
    assert min(sizes) > sizes[0] / math.e


def test_without_the_factor_they_would_grow_beyond_any_bound():
    made = network("residual", 56, norm="none")
    for module in made.modules():
        if hasattr(module, "factor"):
            module.factor = 1.0
    sizes = activations(made)
    assert max(sizes) > 1000 * sizes[0]


def activations(made):
    """Root mean square of the first layer's activation and of every block's output, for normal images."""
    names = ["relu", *(block.name for block in made.layout.blocks)]
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), Taps(made, names) as taps:
        made(images)
    return [taps.outputs[name].square().mean().sqrt().item() for name in names]


@pytest.mark.parametrize("blocks", [3, 27, 54, 600])
def test_the_factors_keep_the_closed_forms_of_their_growth_below_e(blocks):
    assert (1 + 2 * branch_scale(blocks, "he") ** 2) ** blocks < math.e**2
    assert (1 + branch_scale(blocks, "dirac")) ** blocks < math.e


@pytest.mark.parametrize(("kind", "shortcut"), [("plain", "none"), ("residual", "A")])
def test_one_step_of_sgd_at_depth_56_without_a_norm_is_finite(kind, shortcut):
    made = network(kind, 56, shortcut, norm="none")
    optimizer = torch.optim.SGD(made.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    images = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    before = nn.functional.cross_entropy(made(images), torch.arange(8))
    before.backward()
    assert all(weight.grad.any() for name, weight in shared_weights(made) if name.endswith("weight"))
    optimizer.step()
    after = nn.functional.cross_entropy(made(images), torch.arange(8))
    assert after.isfinite()
    assert after < before
    if kind == "residual":
        sizes = activations(made)
        assert max(sizes) < 2 * math.e * sizes[0]


def test_the_convolutions_of_a_network_without_a_norm_begin_as_those_with_it():
    with_norm, without = (dict(shared_weights(network("plain", 14, norm=norm))) for norm in ("batch", "none"))
    convolutions = [name for name in with_norm if "conv" in name]
    assert len(convolutions) == 13
    assert all(torch.equal(with_norm[name], without[name]) for name in convolutions)
