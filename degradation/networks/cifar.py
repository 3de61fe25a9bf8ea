"""The CIFAR family of He et al. 2015, section 4.2: 6n+2 weighted layers, plain or residual."""

from itertools import pairwise

from torch import Tensor, nn

from degradation.layout import Block, Layer, Layout
from degradation.networks.norms import Scale, branch_scale, make_norm
from degradation.networks.shortcuts import make_shortcut
from degradation.plan import CLASSES, filters
from degradation.spec import Initialization, Network, Norm, Shortcut, valid_depth


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with their batch norms, and the shortcut around them where there is one.

    y = ReLU(F(x) + shortcut(x)) in a residual network (equations 1 and 2), y = ReLU(F(x)) in a plain one; a
    residual network without a norm multiplies F(x) by ``scale`` (``norms``), None everywhere else.
    (N, C, H, W) -> (N, filters, H/stride, W/stride). The shortcut's module is called ``downsample``, as in
    the public implementations, so that their checkpoints fit. No operation is in place: hooks see true values.
    """

    def __init__(
        self, inputs: int, filters: int, stride: int, shortcut: Shortcut, *, norm: Norm, scale: float | None
    ) -> None:
        super().__init__()
        bias = norm == "none"
        self.conv1 = nn.Conv2d(inputs, filters, kernel_size=3, stride=stride, padding=1, bias=bias)
        self.bn1 = make_norm(norm, filters)
        self.conv2 = nn.Conv2d(filters, filters, kernel_size=3, padding=1, bias=bias)
        self.bn2 = make_norm(norm, filters)
        self.scale = nn.Identity() if scale is None else Scale(scale)
        self.relu = nn.ReLU()
        self.downsample = make_shortcut(shortcut, inputs, filters, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.scale(self.bn2(self.conv2(out)))
        if self.downsample is not None:
            out = out + self.downsample(x)
        output: Tensor = self.relu(out)
        return output


class CifarNetwork(nn.Module):
    """A 3x3 convolution, three stages of n blocks with 16, 32 and 64 filters times width, global pool, linear layer.

    Input (N, 3, H, W), output logits (N, 10). ``layout`` names its layers and blocks for the probes.
    Raises ValueError for a depth that is not 6n+2 or a shortcut that does not fit the kind.
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
    ) -> None:
        super().__init__()
        if (kind == "plain") != (shortcut == "none"):
            raise ValueError(
                f"a plain network has shortcut 'none', a residual one A, B or C; not {kind} with {shortcut}"
            )
        n = (valid_depth(depth) - 2) // 6
        first, last = filters(width)[0], filters(width)[-1]
        scale = branch_scale(3 * n, initialization) if norm == "none" and kind == "residual" else None
        self.conv1 = nn.Conv2d(3, first, kernel_size=3, padding=1, bias=norm == "none")
        self.bn1 = make_norm(norm, first)
        self.relu = nn.ReLU()
        stages = []
        for before, own in pairwise((first, *filters(width))):
            shapes = [(before, 1 if before == own else 2)] + [(own, 1)] * (n - 1)
            blocks = [BasicBlock(inputs, own, stride, shortcut, norm=norm, scale=scale) for inputs, stride in shapes]
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3 = stages
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(last, CLASSES)
        self.layout = cifar_layout(n, shortcut, norm)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        logits: Tensor = self.fc(self.pool(out).flatten(1))
        return logits


def cifar_layout(n: int, shortcut: Shortcut, norm: Norm = "batch") -> Layout:
    """The Layout of a network with n blocks in each of its three stages.

    Without a norm a layer's response is its convolution's output, and a residual block's branch the scaled one:
    what is added to the shortcut.
    """
    response, branch = ("bn", "bn2") if norm == "batch" else ("conv", "conv2" if shortcut == "none" else "scale")
    blocks = tuple(
        Block(
            number=stage * n + index + 1,
            name=(name := f"layer{stage + 1}.{index}"),
            stage=stage + 1,
            branch=f"{name}.{branch}",
            shortcut=None if shortcut == "none" else f"{name}.downsample",
        )
        for stage in range(3)
        for index in range(n)
    )
    places = [("", "1", 1)] + [(f"{block.name}.", half, block.stage) for block in blocks for half in "12"]
    layers = [
        Layer(number=number, name=f"{owner}conv{half}", stage=stage, response=f"{owner}{response}{half}")
        for number, (owner, half, stage) in enumerate(places, start=1)
    ]
    # The linear layer works on the pooled 1x1 maps: a feature-map size, so a stage, of its own.
    linear = Layer(number=len(layers) + 1, name="fc", stage=4, response=None)
    return Layout(layers=(*layers, linear), blocks=blocks)
