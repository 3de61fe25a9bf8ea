"""What `degradation.record` refuses, each in one line that says what was expected and what came."""

import pytest
import torchvision
from torch import nn

import degradation
from degradation.errors import UserError


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"layers": "layer9.*"}, "named 'layer9.*'; there are layer"),
        ({"layers": "layer1"}, "it is a Sequential of layers, which 'layer1.*' chooses"),
        ({"layers": "relu"}, "it is a ReLU, which holds no weight"),
        ({"layers": []}, "not layers=[]"),
        ({"layers": 5}, "not layers=5"),
        ({"layers": ["fc", 3]}, "not layers=['fc', 3]"),
        ({"every": 0}, "at least 1, not every=0"),
        ({"every": 1.5}, "whole number of at least 1, not every=1.5"),
        ({"every": "2"}, "not every='2' (str)"),
        ({"every": True}, "not every=True"),
        ({"gradients": False, "responses": False}, "leave nothing to record"),
    ],
)
def test_what_cannot_be_recorded_is_refused_in_one_line(asked, said):
    with pytest.raises(UserError, match=r"^[^\n]+$") as refused:
        degradation.record(torchvision.models.resnet18(), **asked)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (None, "not None (NoneType)"),
        ([nn.Linear(2, 2)], "a PyTorch module, not "),
        (nn.Sequential(nn.LazyLinear(4)), "0.weight has no shape yet"),
    ],
)
def test_what_is_no_readable_network_is_refused_in_one_line(model, said):
    with pytest.raises(UserError, match=r"^[^\n]+$") as refused:
        degradation.record(model)
    assert said in str(refused.value)


def test_a_network_without_layers_is_refused():
    with pytest.raises(UserError, match="no convolution, linear layer or norm"):
        degradation.record(nn.ReLU())
