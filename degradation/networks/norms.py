"""The norm after a convolution: batch norm or none; and the scale of a residual network without it.

A block without a norm computes ReLU(x + s F(x)). If the last weights of F are drawn with mean zero, F(x) and -F(x)
are equally likely: the cross term of x and F(x) vanishes on average, and a block multiplies the mean square of its
input by a factor between 1 and 1 + 2 s^2, since F's is at most twice that of x (gain sqrt 2 in each convolution, a
ReLU between them). With s = 1/sqrt(B) the factor of all B blocks stays below (1 + 2/B)^B < e^2: activations stay below
e times those of the first layer, at any depth; with s = 1 they could grow like 3^(B/2).
Zhang et al. 2022 (arXiv:1903.07120, equation 1) study this block and show that no larger power of 1/B is stable at
every depth. Fixup (arXiv:1901.09321) and SkipInit (De and Smith 2020, arXiv:2002.10444) begin with a branch of zero
instead: a start that a plain twin cannot have.

A Dirac branch copies its input, so that the terms add up and do not average out: s = 1/B, and (1 + 1/B)^B < e again.
"""

import math

from torch import Tensor, nn

from degradation.spec import Initialization, Norm


def make_norm(norm: Norm, channels: int) -> nn.Module:
    """The norm after a convolution: batch norm, or none. A convolution without one has a bias."""
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.Identity()


class Scale(nn.Module):
    """x -> factor x with a fixed factor: a module, so that a probe sees the scaled branch."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x

    def extra_repr(self) -> str:
        return f"{self.factor:.4g}"


def branch_scale(blocks: int, initialization: Initialization) -> float:
    """The factor of each branch of a residual network without a norm."""
    return 1 / blocks if initialization == "dirac" else 1 / math.sqrt(blocks)
