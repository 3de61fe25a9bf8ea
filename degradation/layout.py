"""Layout: what a network consists of, in the words of the frames; the only place that looks at module types."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

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
    """Two layers and the shortcut around them."""

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


def norms(network: nn.Module) -> Iterator[nn.modules.batchnorm._BatchNorm]:
    """The batch norms of a network."""
    return (module for module in network.modules() if isinstance(module, NORMS))


def weight_of(network: nn.Module, layer: Layer) -> torch.nn.Parameter:
    """The weight tensor of a layer."""
    weight = network.get_submodule(layer.name).weight
    if not isinstance(weight, nn.Parameter):
        raise TypeError(f"{layer.name} holds no weight parameter")
    return weight
