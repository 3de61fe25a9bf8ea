"""Layout: what a network consists of, in the words of the frames; the only place that looks at module types."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

NORMS = (nn.modules.batchnorm._BatchNorm,)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One weighted layer: where its weight is, and the module whose output is its response."""

    number: int
    """1-based, in forward order."""
    name: str
    """Module that holds the weight, e.g. ``layer1.0.conv1``."""
    stage: int
    response: str | None
    """Module whose output is the response (the batch norm; without one the convolution); None for the linear layer."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """Two or three layers and the shortcut around them."""

    number: int
    name: str
    stage: int
    branch: str
    """Module whose output is F(x), the branch before the addition."""
    shortcut: str | None
    """Module whose output is added to the branch; None in a plain network."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The weighted layers in forward order (the linear layer last) and the blocks of a network."""

    layers: tuple[Layer, ...]
    blocks: tuple[Block, ...]

    @property
    def responding(self) -> tuple[Layer, ...]:
        """The layers that have a response: all but the linear one."""
        return tuple(layer for layer in self.layers if layer.response is not None)


@dataclass(frozen=True, kw_only=True)
class Normalized:
    """What made an output of batch norm with batch statistics: gamma, beta and 1/sqrt(v + eps), each (C,), and eps."""

    gamma: Tensor
    beta: Tensor
    inverse_std: Tensor
    eps: float


def normalized(module: nn.Module, output: Tensor) -> Normalized | None:
    """What batch norm knows of its output; None for another module, for running statistics, and without gradients.

    The statistics are those that torch keeps for the backward pass, so this must be asked before it.
    """
    if not isinstance(module, NORMS) or module.weight is None or not (module.training or module.running_var is None):
        return None
    kept = getattr(output.grad_fn, "_saved_result2", None)
    if not isinstance(kept, Tensor) or kept.shape != module.weight.shape:
        return None
    return Normalized(
        gamma=module.weight.detach(), beta=module.bias.detach(), inverse_std=kept.detach().float(), eps=module.eps
    )


def norms(network: nn.Module) -> Iterator[nn.modules.batchnorm._BatchNorm]:
    """The batch norms of a network."""
    return (module for module in network.modules() if isinstance(module, NORMS))


def weight_of(network: nn.Module, layer: Layer) -> torch.nn.Parameter:
    """The weight tensor of a layer."""
    weight = network.get_submodule(layer.name).weight
    if not isinstance(weight, nn.Parameter):
        raise TypeError(f"{layer.name} holds no weight parameter")
    return weight
