"""Shortcut options A, B and C of He et al. 2015, sections 3.3 and 4.1."""

from torch import Tensor, nn
from torch.nn import functional as F

from degradation.networks.norms import make_norm
from degradation.spec import Network, Norm, Shortcut


class ZeroPadded(nn.Module):
    """Option A where shapes change: every ``stride``-th pixel, and zero channels, half of them on either side.

    (N, C, H, W) -> (N, filters, H/stride, W/stride). The paper does not specify the side of the zeros; equally many on
    both sides is the choice of the common public implementation.
    """

    def __init__(self, inputs: int, filters: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        before = (filters - inputs) // 2
        self.channels = (before, filters - inputs - before)

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, *self.channels))


class Projection(nn.Sequential):
    """Options B and C: a 1x1 convolution and its batch norm, or its bias in a network without one.

    (N, C, H, W) -> (N, filters, H/stride, W/stride).
    """

    def __init__(self, inputs: int, filters: int, stride: int, norm: Norm) -> None:
        super().__init__(
            nn.Conv2d(inputs, filters, kernel_size=1, stride=stride, bias=norm == "none"),
            make_norm(norm, filters),
        )


def check_kind(kind: Network, shortcut: Shortcut) -> None:
    """ValueError if the shortcut does not fit the kind of network."""
    if (kind == "plain") != (shortcut == "none"):
        raise ValueError(f"a plain network has shortcut 'none', a residual one A, B or C; not {kind} with {shortcut}")


def make_shortcut(option: Shortcut, inputs: int, filters: int, stride: int, norm: Norm) -> nn.Module | None:
    """The shortcut of one block; None for a plain one."""
    changes = stride != 1 or inputs != filters
    if option == "none":
        return None
    if option == "C" or (option == "B" and changes):
        return Projection(inputs, filters, stride, norm)
    return ZeroPadded(inputs, filters, stride) if changes else nn.Identity()


def comes_with_shortcut(name: str) -> bool:
    """Whether a tensor belongs to a shortcut, its gate or its learned scale: a plain twin has none."""
    return any(f".{part}." in f".{name}" for part in ("downsample", "transform", "scale"))
