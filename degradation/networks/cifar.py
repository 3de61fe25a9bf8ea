"""The CIFAR family of He et al. 2015, section 4.2: 6n+2 weighted layers, plain or residual."""

from itertools import pairwise

from torch import Tensor, nn

from degradation.layout import Block, Layer, Layout
from degradation.networks.shortcuts import make_shortcut
from degradation.plan import CLASSES, WIDTHS
from degradation.spec import Network, Shortcut, valid_depth


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with their batch norms, and the shortcut around them where there is one.

    y = ReLU(F(x) + shortcut(x)) in a residual network (equations 1 and 2), y = ReLU(F(x)) in a plain one.
    (N, C, H, W) -> (N, filters, H/stride, W/stride). The shortcut's module is called ``downsample``, as in
    the public implementations, so that their checkpoints fit. No operation is in place: hooks see true values.
    """

    def __init__(self, inputs: int, filters: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, filters, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.relu = nn.ReLU()
        self.downsample = make_shortcut(shortcut, inputs, filters, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            out = out + self.downsample(x)
        output: Tensor = self.relu(out)
        return output


class CifarNetwork(nn.Module):
    """A 3x3 convolution, three stages of n blocks with 16, 32 and 64 filters, global pool, linear layer.

    Input (N, 3, H, W), output logits (N, 10). ``layout`` names its layers and blocks for the probes.
    Raises ValueError for a depth that is not 6n+2 or a shortcut that does not fit the kind.
    """

    def __init__(self, *, kind: Network, depth: int, shortcut: Shortcut) -> None:
        super().__init__()
        if (kind == "plain") != (shortcut == "none"):
            raise ValueError(
                f"a plain network has shortcut 'none', a residual one A, B or C; not {kind} with {shortcut}"
            )
        n = (valid_depth(depth) - 2) // 6
        self.conv1 = nn.Conv2d(3, WIDTHS[0], kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.relu = nn.ReLU()
        stages = [_stage(n, inputs, filters, shortcut) for inputs, filters in pairwise((WIDTHS[0], *WIDTHS))]
        self.layer1, self.layer2, self.layer3 = stages
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(WIDTHS[-1], CLASSES)
        self.layout = cifar_layout(n, shortcut)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        logits: Tensor = self.fc(self.pool(out).flatten(1))
        return logits


def _stage(n: int, inputs: int, filters: int, shortcut: Shortcut) -> nn.Sequential:
    stride = 1 if inputs == filters else 2
    first = BasicBlock(inputs, filters, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(filters, filters, 1, shortcut) for _ in range(n - 1)))


def cifar_layout(n: int, shortcut: Shortcut) -> Layout:
    """The Layout of a network with n blocks in each of its three stages."""
    blocks = tuple(
        Block(
            number=stage * n + index + 1,
            name=(name := f"layer{stage + 1}.{index}"),
            stage=stage + 1,
            branch=f"{name}.bn2",
            shortcut=None if shortcut == "none" else f"{name}.downsample",
        )
        for stage in range(len(WIDTHS))
        for index in range(n)
    )
    convolutions = [("conv1", "bn1", 1)] + [
        (f"{block.name}.conv{half}", f"{block.name}.bn{half}", block.stage) for block in blocks for half in (1, 2)
    ]
    layers = [
        Layer(number=number, name=name, stage=stage, response=response)
        for number, (name, response, stage) in enumerate(convolutions, start=1)
    ]
    # The linear layer works on the pooled 1x1 maps: a feature-map size, so a stage, of its own.
    linear = Layer(number=len(layers) + 1, name="fc", stage=len(WIDTHS) + 1, response=None)
    return Layout(layers=(*layers, linear), blocks=blocks)
