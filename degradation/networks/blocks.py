"""The block of two 3x3 layers, in each order of its operations (He et al. 2016, arXiv:1603.05027, Figure 4)."""

from dataclasses import dataclass, field

from torch import Tensor, nn

from degradation.networks.norms import make_norm
from degradation.networks.shortcuts import make_shortcut
from degradation.networks.variants import Transform, make_scale, make_transform
from degradation.spec import BlockSpec, Norm, Order, Shortcut


@dataclass(frozen=True, kw_only=True)
class Building:
    """Settings of all blocks of a network; ``scale`` is the fixed factor of a branch (``norms``), or None."""

    shortcut: Shortcut
    norm: Norm = "batch"
    scale: float | None = None
    spec: BlockSpec = field(default_factory=BlockSpec)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with their batch norms, and in a residual network the shortcut around them.

    y = ReLU(F(x) + shortcut(x)) in a residual network (equations 1 and 2), y = ReLU(F(x)) in a plain one; ``scale`` is
    the end of the branch F, ``transform`` changes both before the addition (``variants``). The other orders are below.
    (N, C, H, W) -> (N, filters, H/stride, W/stride). The shortcut's module has the name ``downsample``, as in the
    public implementations, so that their checkpoints fit. No operation is in place, so hooks see true values.
    """

    def __init__(self, name: str, inputs: int, filters: int, stride: int, building: Building) -> None:
        super().__init__()
        self.name = name
        norm, bias = building.norm, building.norm == "none"
        self.conv1 = nn.Conv2d(inputs, filters, kernel_size=3, stride=stride, padding=1, bias=bias)
        self.bn1 = make_norm(norm, filters)
        self.conv2 = nn.Conv2d(filters, filters, kernel_size=3, padding=1, bias=bias)
        self.bn2 = make_norm(norm, filters)
        self.scale = make_scale(building.spec, building.scale)
        self.relu = nn.ReLU()
        self.downsample = make_shortcut(building.shortcut, inputs, filters, stride, norm)
        self.transform = make_transform(building.spec, inputs, filters, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        output: Tensor = self.relu(self.add(x, self.scale(self.bn2(self.conv2(out)))))
        return output

    def add(self, x: Tensor, branch: Tensor) -> Tensor:
        """The sum of the branch and the shortcut of x; in a plain network the branch. ValueError if shapes differ."""
        if self.downsample is None:
            return branch
        return added(self.name, self.transform, x, branch, self.downsample(x))


def added(name: str, transform: Transform | None, x: Tensor, branch: Tensor, shortcut: Tensor) -> Tensor:
    """The sum of a block's branch and shortcut, after the transform."""
    if branch.shape != shortcut.shape:
        raise ValueError(
            f"block {name}: the branch is {tuple(branch.shape)} and the shortcut {tuple(shortcut.shape)}: "
            "they are added, so their shapes must be equal"
        )
    if transform is not None:
        branch, shortcut = transform(x, branch, shortcut)
    return branch + shortcut


class NormAfterAddition(BasicBlock):
    """Figure 4 (b): the second norm comes after the addition, so the shortcut passes through it as well."""

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        output: Tensor = self.relu(self.bn2(self.add(x, self.scale(self.conv2(out)))))
        return output


class ReluBeforeAddition(BasicBlock):
    """Figure 4 (c): the second ReLU is the end of the branch, which can only increase the shortcut's values."""

    def __init__(self, name: str, inputs: int, filters: int, stride: int, building: Building) -> None:
        super().__init__(name, inputs, filters, stride, building)
        self.relu2 = nn.ReLU()  # a second module, so that a hook sees its output separately

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        return self.add(x, self.scale(self.relu2(self.bn2(self.conv2(out)))))


class ReluOnly(BasicBlock):
    """Figure 4 (d), ReLU-only pre-activation: each ReLU before its convolution, nothing after the addition."""

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn1(self.conv1(self.relu(x)))
        return self.add(x, self.scale(self.bn2(self.conv2(self.relu(out)))))


class FullPreactivation(BasicBlock):
    """Figure 4 (e): norm and ReLU before each convolution, nothing after the addition.

    The first norm has the channels of the block's input. A projection takes the pre-activated input.
    """

    def __init__(self, name: str, inputs: int, filters: int, stride: int, building: Building) -> None:
        super().__init__(name, inputs, filters, stride, building)
        self.bn1 = make_norm(building.norm, inputs)
        self.projects = building.shortcut == "C" or (building.shortcut == "B" and inputs != filters)

    def forward(self, x: Tensor) -> Tensor:
        before = self.relu(self.bn1(x))
        out = self.scale(self.conv2(self.relu(self.bn2(self.conv1(before)))))
        return self.add(before if self.projects else x, out)


ORDERS: dict[Order, type[BasicBlock]] = {
    "original": BasicBlock,
    "norm-after-addition": NormAfterAddition,
    "relu-before-addition": ReluBeforeAddition,
    "relu-only": ReluOnly,
    "full": FullPreactivation,
}

# Order -> the modules of a block whose outputs are the responses of its two layers: the last normalized, else
# convolved, value before an addition or nonlinearity. A plain network is read at the modules of its residual match.
RESPONSES: dict[Order, tuple[str, str]] = {
    "original": ("bn1", "bn2"),
    "norm-after-addition": ("bn1", "conv2"),
    "relu-before-addition": ("bn1", "bn2"),
    "relu-only": ("bn1", "bn2"),
    "full": ("bn2", "conv2"),
}


def responses(building: Building) -> tuple[str, str]:
    """The modules of a block whose outputs are the responses of its two layers."""
    return RESPONSES[building.spec.order] if building.norm == "batch" else ("conv1", "conv2")


def branch_of(building: Building) -> str:
    """The module of a block whose output is added to the shortcut."""
    spec = building.spec
    if transforms(building):
        return "transform.branch"
    if building.scale is not None or spec.start in ("skipinit", "fixup"):
        return "scale"
    return "relu2" if spec.order == "relu-before-addition" else responses(building)[1]


def shortcut_of(building: Building) -> str | None:
    """The module of a block whose output is added to the branch; None in a plain network."""
    if building.shortcut == "none":
        return None
    return "transform.shortcut" if transforms(building) else "downsample"


def transforms(building: Building) -> bool:
    """Whether branch and shortcut are changed before they are added."""
    return make_transform(building.spec, 1, 1, 1) is not None


def ending(building: Building, filters: int) -> nn.Module:
    """The module after the last block: with pre-activation the missing activation (the paper's appendix)."""
    if building.spec.order == "full":
        return nn.Sequential(make_norm(building.norm, filters), nn.ReLU())
    return nn.ReLU() if building.spec.order == "relu-only" else nn.Identity()
