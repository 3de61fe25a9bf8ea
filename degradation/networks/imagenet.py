"""The ImageNet family of He et al. 2015, section 4.1 and Table 1: depths 18 to 152, plain or residual."""

from collections.abc import Iterator
from functools import partial

from torch import Tensor, nn

from degradation.networks.blocks import BasicBlock, Building, added
from degradation.networks.layout import Block, Layer, Layout
from degradation.networks.norms import make_norm
from degradation.networks.shortcuts import check_kind, make_shortcut
from degradation.spec import (
    EXPANSION,
    IMAGENET_FILTERS,
    TABLE_1,
    Network,
    Shortcut,
    StrideOn,
    Table1,
    depth_of,
    has_plain,
)

IMAGENET_CLASSES = 1000


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with their batch norms, and the shortcut around them (Figure 5, right).

    (N, C, H, W) -> (N, 4 filters, H/stride, W/stride). The stride is on the 3x3 convolution, as in today's common
    implementation, or on the first 1x1 one, as in the paper. No operation is in place, so hooks see true values.
    """

    def __init__(
        self, name: str, inputs: int, filters: int, stride: int, building: Building, stride_on: StrideOn
    ) -> None:
        super().__init__()
        self.name = name
        own, wide = (stride, 1) if stride_on == "1x1" else (1, stride)
        self.conv1 = nn.Conv2d(inputs, filters, kernel_size=1, stride=own, bias=False)
        self.bn1 = make_norm(building.norm, filters)
        self.conv2 = nn.Conv2d(filters, filters, kernel_size=3, stride=wide, padding=1, bias=False)
        self.bn2 = make_norm(building.norm, filters)
        self.conv3 = nn.Conv2d(filters, EXPANSION * filters, kernel_size=1, bias=False)
        self.bn3 = make_norm(building.norm, EXPANSION * filters)
        self.relu = nn.ReLU()
        self.downsample = make_shortcut(building.shortcut, inputs, EXPANSION * filters, stride, building.norm)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.downsample is not None:
            out = added(self.name, None, x, out, self.downsample(x))
        output: Tensor = self.relu(out)
        return output


class ImageNetNetwork(nn.Module):
    """A 7x7 convolution, max pool, four stages of blocks, global pool, linear layer (Table 1).

    Input (N, 3, H, W), 224x224 in the paper; output logits (N, classes). ``layout`` names its layers and blocks. The
    state dict of a residual network with option B is interchangeable with torchvision's.
    Raises ValueError for a depth that Table 1 does not have or a shortcut that does not fit the kind.
    """

    def __init__(
        self,
        *,
        kind: Network,
        depth: int,
        shortcut: Shortcut,
        stride_on: StrideOn = "3x3",
        classes: int = IMAGENET_CLASSES,
    ) -> None:
        super().__init__()
        check_kind(kind, shortcut)
        table = TABLE_1[depth_of("imagenet", depth)]
        if kind == "plain":
            has_plain("imagenet", (depth,))
        self.conv1 = nn.Conv2d(3, IMAGENET_FILTERS[0], kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = make_norm("batch", IMAGENET_FILTERS[0])
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        building = Building(shortcut=shortcut)
        stages = [_stage(table, number, building, stride_on) for number in range(len(IMAGENET_FILTERS))]
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(_widths(table)[-1], classes)
        self.layout = imagenet_layout(table, shortcut)

    @property
    def blocks(self) -> tuple[BasicBlock | Bottleneck, ...]:
        """The blocks in forward order."""
        return (*self.layer1, *self.layer2, *self.layer3, *self.layer4)

    def bind_step_counter(self, step: Tensor, row: Tensor | None = None) -> None:
        """Do nothing: no part of this family depends on the number of the step or the place in its batch."""

    def forward(self, x: Tensor) -> Tensor:
        out = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        out = self.layer4(self.layer3(self.layer2(self.layer1(out))))
        logits: Tensor = self.fc(self.avgpool(out).flatten(1))
        return logits


def _widths(table: Table1) -> tuple[int, ...]:
    """Input channels of the first stage, and output channels of each."""
    return IMAGENET_FILTERS[0], *(EXPANSION * own if table.bottleneck else own for own in IMAGENET_FILTERS)


def _stage(table: Table1, number: int, building: Building, stride_on: StrideOn) -> nn.Sequential:
    """The blocks of a stage, counted from 0; the first block of each stage except 0 halves the maps."""
    before, after = _widths(table)[number : number + 2]
    own = IMAGENET_FILTERS[number]
    make = partial(Bottleneck, stride_on=stride_on) if table.bottleneck else BasicBlock
    shapes = [(before, 2 if number else 1)] + [(after, 1)] * (table.blocks[number] - 1)
    blocks = [make(f"layer{number + 1}.{i}", inputs, own, by, building) for i, (inputs, by) in enumerate(shapes)]
    return nn.Sequential(*blocks)


def imagenet_layout(table: Table1, shortcut: Shortcut) -> Layout:
    """The Layout: stage 1 is the first layer's, 2 to 5 are the paper's conv2_x to conv5_x, 6 the linear layer's."""
    last = 3 if table.bottleneck else 2
    names = [(f"layer{stage - 1}.{i}", stage) for stage, count in enumerate(table.blocks, 2) for i in range(count)]
    blocks = tuple(
        Block(
            number=number,
            name=name,
            stage=stage,
            branch=f"{name}.bn{last}",
            shortcut=None if shortcut == "none" else f"{name}.downsample",
        )
        for number, (name, stage) in enumerate(names, start=1)
    )
    layers = [
        Layer(number=number, name=f"{owner}conv{place}", stage=stage, response=f"{owner}bn{place}")
        for number, (owner, place, stage) in enumerate(_places(blocks, last), start=1)
    ]
    linear = Layer(number=len(layers) + 1, name="fc", stage=6, response=None)
    return Layout(layers=(*layers, linear), blocks=blocks)


def _places(blocks: tuple[Block, ...], last: int) -> Iterator[tuple[str, int, int]]:
    """(the module's prefix, the number of the convolution in it, its stage) of every layer except the linear one."""
    yield "", 1, 1
    for block in blocks:
        yield from ((f"{block.name}.", place, block.stage) for place in range(1, last + 1))
