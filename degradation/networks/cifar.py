"""The CIFAR family of He et al. 2015, section 4.2: 6n+2 weighted layers, plain or residual."""

from itertools import pairwise

from torch import Tensor, nn

from degradation.networks.blocks import ORDERS, BasicBlock, Building, branch_of, ending, responses, shortcut_of
from degradation.networks.layout import Block, Layer, Layout
from degradation.networks.norms import branch_scale, make_norm
from degradation.networks.shortcuts import check_kind
from degradation.networks.variants import begin_branch
from degradation.spec import BlockSpec, Initialization, Network, Norm, Shortcut, valid_depth
from degradation.spec.grid import CLASSES, filters


class CifarNetwork(nn.Module):
    """A 3x3 convolution, three stages of n blocks with 16, 32 and 64 filters times width, global pool, linear layer.

    Input (N, 3, H, W), output logits (N, classes). ``layout`` names its layers and blocks for the probes. With
    pre-activation the first block uses the activation after the first convolution as its own, and there is another
    after the last block (He et al. 2016, appendix).
    Raises ValueError for a depth that is not 6n+2, a shortcut that does not fit the kind, or blocks that do not fit.
    """

    def __init__(
        self,
        *,
        kind: Network,
        depth: int,
        shortcut: Shortcut,
        norm: Norm = "batch",
        width: int = 1,
        initialization: Initialization = "he",
        block: BlockSpec | None = None,
        classes: int = CLASSES,
    ) -> None:
        super().__init__()
        self.spec = (block or BlockSpec()).fitting(norm)
        check_kind(kind, shortcut)
        if kind == "plain" and self.spec.of_shortcut:
            raise ValueError(f"a plain network has no shortcut: leave out {self.spec.of_shortcut[0]}")
        n = (valid_depth(depth) - 2) // 6
        first, last = filters(width)[0], filters(width)[-1]
        scale = branch_scale(3 * n, initialization) if norm == "none" and kind == "residual" else None
        building = Building(shortcut=shortcut, norm=norm, scale=scale, spec=self.spec)
        self.conv1 = nn.Conv2d(3, first, kernel_size=3, padding=1, bias=norm == "none")
        self.bn1 = make_norm(norm, first)
        self.relu = nn.ReLU()
        stages = []
        for stage, (before, own) in enumerate(pairwise((first, *filters(width))), start=1):
            shapes = [(before, 1 if before == own else 2)] + [(own, 1)] * (n - 1)
            make = ORDERS[self.spec.order]
            blocks = [make(f"layer{stage}.{i}", inputs, own, by, building) for i, (inputs, by) in enumerate(shapes)]
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3 = stages
        if self.spec.order == "full":
            self.layer1[0].bn1 = nn.Identity()
        self.last = ending(building, last)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(last, classes)
        self.layout = cifar_layout(n, building)

    @property
    def blocks(self) -> tuple[BasicBlock, ...]:
        """The blocks in forward order."""
        return (*self.layer1, *self.layer2, *self.layer3)

    def begin(self, seed: int) -> None:
        """Apply the variants' changes to drawn weights: gates, starts of branches, keys of dropout."""
        for block in self.blocks:
            begin_branch(self.spec, block, len(self.blocks))
            if block.transform is not None:
                block.transform.begin(seed, block.name)

    def bind_step_counter(self, step: Tensor, row: Tensor | None = None) -> None:
        """Let dropout draw its masks by this tensor, which always holds the number of the step.

        ``row`` holds the place of the first image in the step's batch, if a forward sees only a part of it.
        """
        for block in self.blocks:
            if block.transform is not None:
                block.transform.bind_step_counter(step, row)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.last(self.layer3(self.layer2(self.layer1(out))))
        logits: Tensor = self.fc(self.pool(out).flatten(1))
        return logits


def cifar_layout(n: int, building: Building) -> Layout:
    """The Layout of a network with n blocks in each of its three stages.

    Without a norm a layer's response is its convolution's output. A block's branch and shortcut are the added tensors.
    """
    branch, shortcut = branch_of(building), shortcut_of(building)
    blocks = tuple(
        Block(
            number=stage * n + index + 1,
            name=(name := f"layer{stage + 1}.{index}"),
            stage=stage + 1,
            branch=f"{name}.{branch}",
            shortcut=shortcut and f"{name}.{shortcut}",
        )
        for stage in range(3)
        for index in range(n)
    )
    places = [("conv1", "bn1" if building.norm == "batch" else "conv1", 1)]
    for block in blocks:
        for convolution, response in zip(("conv1", "conv2"), responses(building), strict=True):
            places.append((f"{block.name}.{convolution}", f"{block.name}.{response}", block.stage))
    layers = [
        Layer(number=number, name=name, stage=stage, response=response)
        for number, (name, response, stage) in enumerate(places, start=1)
    ]
    # The linear layer has its own stage: its input has another feature-map size, the pooled 1x1.
    linear = Layer(number=len(layers) + 1, name="fc", stage=4, response=None)
    return Layout(layers=(*layers, linear), blocks=blocks)
