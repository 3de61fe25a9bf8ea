"""What a recording's summary calls vanishing, exploding, dead and odd, on networks of which it is known."""

import math

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

import degradation


def mlp(depth, std=None, act=nn.ReLU, norm=False, width=64):
    """Linear layers with torch's own weights, or normal ones of ``std`` / sqrt(width) and no bias."""
    torch.manual_seed(0)
    parts = []
    for _ in range(depth):
        linear = nn.Linear(width, width)
        if std is not None:
            nn.init.normal_(linear.weight, std=std / math.sqrt(width))
            nn.init.zeros_(linear.bias)
        parts += [linear, *([nn.BatchNorm1d(width)] if norm else []), act()]
    return nn.Sequential(*parts, nn.Linear(width, 10))


def told(model, x=None, scale=1.0):
    """The summary of one step."""
    torch.manual_seed(1)
    with degradation.record(model, every=1) as rec:
        outputs = model(torch.randn(32, 64) if x is None else x).flatten(0, -2)
        labels = torch.randint(0, outputs.shape[1], (len(outputs),))
        (F.cross_entropy(outputs, labels) * scale).backward()
    return rec.summary()


def test_sixty_relu_layers_of_torchs_own_weights_vanish_towards_the_input():
    text = told(mlp(60))
    assert "at step 0: the gradient vanishes towards the input: by a factor of " in text
    assert "from 118 (" in text
    assert " to 4 (" in text
    assert "to nothing" not in text
    assert "explodes" not in text
    assert "dead" not in text
    assert "no gradient" not in text


def test_where_the_values_themselves_underflow_it_is_told_that_they_vanish_to_nothing():
    text = told(mlp(150))
    assert "at step 0: the gradient vanishes towards the input: by a factor of " in text
    assert "and to nothing in the " in text
    assert "no gradient" not in text


def test_ten_sigmoids_vanish_towards_the_input_and_do_not_explode():
    text = told(mlp(10, act=nn.Sigmoid))
    assert "the gradient vanishes towards the input: by a factor of " in text
    assert "from 18 (" in text
    assert " to 4 (" in text
    assert "explodes" not in text


class Branches(nn.Module):
    """Residual branches whose last layers begin near zero: their gradients are as large as any, others not."""

    def __init__(self):
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64)) for _ in range(4))
        for branch in self.branches:
            nn.init.normal_(branch[2].weight, std=1e-6)
            nn.init.zeros_(branch[2].bias)
        self.first, self.head = nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, x):
        x = self.first(x)
        for branch in self.branches:
            x = x + branch(x)
        return self.head(x)


def test_small_gradients_within_branches_do_not_vanish_towards_the_input():
    text = told(Branches())
    assert "vanishes" not in text
    assert "explodes" not in text
    assert text.count("stands out") <= 3
    assert "more responses or gradients: they stand out from their neighbours" in text


def test_responses_that_shrink_with_depth_vanish_with_depth():
    text = told(mlp(20, std=0.7))
    assert "the response vanishes with depth: by a factor of " in text
    assert "explodes" not in text
    assert "stands out" not in text  # the last layer is an ordinary one next to layers that vanished


def test_a_deep_linear_network_with_large_weights_explodes_both_ways():
    text = told(mlp(40, std=2.5, act=nn.Identity))
    assert "the gradient explodes towards the input: by a factor of " in text
    assert "the response explodes with depth: by a factor of " in text
    assert "every gradient is huge: at least " in text
    assert "vanishes" not in text


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        block = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.encoder, self.head = nn.TransformerEncoder(block, 3), nn.Linear(32, 10)

    def forward(self, x):
        return self.head(self.encoder(x))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: mlp(20, std=math.sqrt(2), norm=True), (32, 64)),
        (lambda: mlp(40, std=math.sqrt(2)), (32, 64)),
        (lambda: torchvision.models.resnet18(num_classes=10), (8, 3, 32, 32)),
        (Transformer, (4, 12, 32)),
    ],
    ids=["batch norm", "he", "resnet18", "transformer"],
)
def test_healthy_networks_stand_out_nowhere(make, shape):
    torch.manual_seed(0)
    text = told(make(), torch.randn(shape))
    assert text.splitlines()[1:] == ["at step 0: no layer vanishes, explodes or is dead"]


def test_one_odd_layer_among_healthy_ones_is_named_and_gives_no_direction():
    model = mlp(20, std=math.sqrt(2), norm=True)
    with torch.no_grad():
        model[30].weight.mul_(1e-4)
    text = told(model)
    assert "the response of 30 stands out: " in text
    assert "the gradient of 30 stands out: " in text
    assert "vanishes" not in text
    assert "explodes" not in text


def test_an_odd_last_layer_is_no_direction():
    model = mlp(3, std=math.sqrt(2))
    with torch.no_grad():
        model[6].weight.mul_(1e6)
    text = told(model)
    assert "the response of 6 stands out: " in text
    assert "explodes with depth" not in text


def test_where_a_gradient_vanishes_at_once_the_place_is_named():
    model = mlp(20, std=math.sqrt(2))
    with torch.no_grad():
        model[20].weight.mul_(1e-4)
    assert "most of it between 18 and 20" in told(model)


@pytest.mark.parametrize(("factor", "said"), [(1e-4, True), (1e-2, False)])
def test_a_single_step_below_a_thousand_is_not_told(factor, said):
    model = mlp(8, std=math.sqrt(2))
    with torch.no_grad():
        model[8].weight.mul_(factor)
    assert ("the gradient vanishes towards the input" in told(model)) == said


@pytest.mark.parametrize(
    ("scale", "said"), [(1e-12, "every gradient is tiny: at most "), (1e15, "every gradient is huge: at least ")]
)
def test_gradients_that_are_tiny_or_huge_everywhere_are_told(scale, said):
    assert said in told(mlp(5, std=1.4), scale=scale)
    assert "every gradient" not in told(mlp(5, std=1.4))


def test_the_layer_that_died_comes_first_and_those_behind_it_after_it():
    model = mlp(5, std=1.4)
    with torch.no_grad():
        model[4].bias.fill_(-100)
    lines = told(model).splitlines()
    assert lines[1] == "at step 0: dead: 4 (no response is above zero, and no gradient comes back); after it 6, 8"
    assert lines[2].startswith("  try: a smaller learning rate, ")
    assert lines[3] == "at step 0: no gradient reaches the weight of any layer"


def test_a_layer_of_which_two_of_sixty_four_units_live_is_nearly_dead():
    model = mlp(5, std=1.4)
    with torch.no_grad():
        model[4].bias[:62] = -100
    assert "at step 0: nearly dead: 4 (98" in told(model)


def test_negative_responses_without_a_relu_behind_them_are_not_dead():
    soft = nn.Sequential(nn.Linear(64, 64), nn.Softplus(), nn.Linear(64, 64), nn.LogSoftmax(1), nn.Linear(64, 10))
    head = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    with torch.no_grad():
        soft[0].bias.fill_(-4)
        head[2].bias.fill_(-50)
    assert "dead:" not in told(soft)
    assert "dead:" not in told(head)
