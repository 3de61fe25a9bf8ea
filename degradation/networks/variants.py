"""Variants of shortcuts by He et al. 2016 (arXiv:1603.05027, section 3): scaling, gates, dropout; branch starts."""

import hashlib
import math

import torch
from torch import Tensor, nn

from degradation.networks.norms import Scale
from degradation.spec import BlockSpec


class Transform(nn.Module):
    """(block's input, branch, shortcut) -> branch and shortcut for the addition, each the output of its module."""

    def __init__(self, branch: nn.Module | None = None, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.branch, self.shortcut = branch or nn.Identity(), shortcut or nn.Identity()

    def begin(self, seed: int, name: str) -> None:
        """Set values after the weights of the block of that name are drawn from the seed."""

    def bind_step_counter(self, step: Tensor, row: Tensor | None = None) -> None:
        """Use these tensors of the training's device: its step, and the row of the first image in the batch."""


class Scaling(Transform):
    """Constant scaling (section 3.1): branch and shortcut are each multiplied by a factor."""

    def __init__(self, branch: float, shortcut: float) -> None:
        super().__init__(Scale(branch), Scale(shortcut))

    def forward(self, _x: Tensor, branch: Tensor, shortcut: Tensor) -> tuple[Tensor, Tensor]:
        return self.branch(branch), self.shortcut(shortcut)


class Gating(Transform):
    """Exclusive or shortcut-only gating (section 3.1): g = sigmoid(W x + b), a 1x1 convolution of the block's input.

    Exclusive: g F and (1 - g) shortcut. Shortcut-only: F and (1 - g) shortcut. If the block changes shapes, the
    convolution has its stride, so that g has the shape of the output; the paper does not specify this.
    """

    def __init__(self, inputs: int, filters: int, stride: int, spec: BlockSpec) -> None:
        super().__init__()
        self.exclusive, self.bias = spec.gate == "exclusive", spec.gate_bias
        self.conv = nn.Conv2d(inputs, filters, kernel_size=1, stride=stride)

    def begin(self, seed: int, name: str) -> None:
        """Set the bias of the spec; a negative one opens the shortcut."""
        nn.init.constant_(self.conv.get_parameter("bias"), self.bias)

    def forward(self, x: Tensor, branch: Tensor, shortcut: Tensor) -> tuple[Tensor, Tensor]:
        gate = torch.sigmoid(self.conv(x))
        return self.branch(gate * branch if self.exclusive else branch), self.shortcut((1 - gate) * shortcut)


class Dropout(Transform):
    """Dropout on the shortcut (section 3.1). Its mask is a function of seed, block, step and place, without state.

    Evaluation needs no step.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share, self.number = share, 0
        self.step: Tensor | None = None
        self.row: Tensor | None = None
        self.key: Tensor | None = None  # the number on the device, so that all blocks share one compilation

    def begin(self, seed: int, name: str) -> None:
        """Set the key of the masks: 62 bits of the SHA-256 of seed and block."""
        self.number = int.from_bytes(hashlib.sha256(f"{seed}/{name}/dropout".encode()).digest()[:8], "little") >> 2

    def bind_step_counter(self, step: Tensor, row: Tensor | None = None) -> None:
        self.step, self.key = step, torch.full_like(step, self.number)
        self.row = torch.zeros_like(step) if row is None else row

    def forward(self, _x: Tensor, branch: Tensor, shortcut: Tensor) -> tuple[Tensor, Tensor]:
        if self.training:
            if self.step is None or self.key is None or self.row is None:
                raise RuntimeError("dropout needs the number of the step: call network.bind_step_counter(step) first")
            mask = dropout_mask(shortcut, self.key, self.step, self.share, self.row)
            shortcut = shortcut * (mask / (1 - self.share))
        return self.branch(branch), self.shortcut(shortcut)


def dropout_mask(like: Tensor, key: Tensor, step: Tensor, share: float, row: Tensor | int = 0) -> Tensor:
    """Ones, and zeros in ``share`` of the places, in the shape and type of ``like``: equal on every device.

    Place p of step s gets the number p of SplitMix64 (Steele et al. 2014) with a start at a hash of key and s. Places
    are those of the whole batch, in which ``like`` begins at ``row``: parts drop the same places as the whole batch.
    """
    places = torch.arange(1, like.numel() + 1, device=like.device)  # 64-bit integers, which wrap around
    before = row * like[:1].numel()
    numbers = _mixed(places * GOLDEN + (before * GOLDEN + _mixed(step * GOLDEN + key)))
    return ((numbers >> 40 & 0xFFFFFF) >= round(share * 2**24)).to(like.dtype).reshape(like.shape)


GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # as signed 64-bit numbers
FIRST, SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64


def _mixed(x: Tensor) -> Tensor:
    """The finalizer of SplitMix64; a shift of a negative number fills with ones, which the masks remove."""
    x = (x ^ (x >> 30 & (1 << 34) - 1)) * FIRST
    x = (x ^ (x >> 27 & (1 << 37) - 1)) * SECOND
    return x ^ (x >> 31 & (1 << 33) - 1)


class LearnedScale(nn.Module):
    """x -> factor x with a learned factor: SkipInit's begins at zero, Fixup's at one."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(start))

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


def make_transform(spec: BlockSpec, inputs: int, filters: int, stride: int) -> Transform | None:
    """The change of branch and shortcut before they are added: (x, branch, shortcut) -> both; None for no change."""
    if spec.gate != "none":
        return Gating(inputs, filters, stride, spec)
    if spec.dropout:
        return Dropout(spec.dropout)
    if (spec.branch_factor, spec.shortcut_factor) != (1.0, 1.0):
        return Scaling(spec.branch_factor, spec.shortcut_factor)
    return None


def make_scale(spec: BlockSpec, fixed: float | None) -> nn.Module:
    """The end of a branch: a learned factor if the spec's start has one, the fixed factor, or the identity."""
    if spec.start in ("skipinit", "fixup"):
        return LearnedScale(0.0 if spec.start == "skipinit" else 1.0)
    return nn.Identity() if fixed is None else Scale(fixed)


@torch.no_grad()
def begin_branch(spec: BlockSpec, block: nn.Module, blocks: int) -> None:
    """Apply ``BlockSpec.start`` to the branch of one of ``blocks`` blocks, after its weights are drawn."""
    if spec.start == "zero-gamma":
        block.get_parameter("bn2.weight").zero_()
    elif spec.start == "fixup":
        block.get_parameter("conv1.weight").mul_(1 / math.sqrt(blocks))
        block.get_parameter("conv2.weight").zero_()
