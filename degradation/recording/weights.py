"""The weights of the layers in one measured step -> norms of weights and gradients, and their previous values."""

from typing import NamedTuple

from torch import Tensor
from torch.nn import Module, Parameter

from degradation.networks.layout import Layout
from degradation.recording.following import weight_at
from degradation.recording.notes import Unread
from degradation.recording.tensors import norm_of, numeric, plain, version_of


class WeightCopy(NamedTuple):
    """A weight as it was before the backward."""

    weight: Tensor
    copy: Tensor
    version: int
    """Its version counter."""


class Weights:
    """The weights of one step; ``copies``: copy each before an optimizer inside the backward changes it."""

    def __init__(self, network: Module, layout: Layout, unread: Unread, *, copies: bool) -> None:
        self._network, self._layers, self._unread, self._copies = network, layout.layers, unread, copies
        self.gradients: dict[str, Tensor] = {}
        """The norm of the gradient that came to the weight of a layer."""
        self.reached: set[str] = set()
        """The layers to whose weight a gradient came."""
        self._before: dict[str, WeightCopy] = {}
        self.look()

    def look(self) -> None:
        """Find the weights of the layers: those that the network has now."""
        self.of: dict[str, Parameter | None] = {layer.name: weight_at(self._network, layer) for layer in self._layers}
        self._names: dict[int, list[str]] = {}
        for name, weight in self.of.items():
            self._names.setdefault(id(weight), []).append(name)

    @property
    def trained(self) -> set[str]:
        """The layers whose weight wants a gradient."""
        return {name for name, weight in self.of.items() if weight is not None and weight.requires_grad}

    def before(self, name: str) -> WeightCopy | None:
        """The weight of a layer before this step changed it; None if it has none that can be copied."""
        weight = self.of[name]
        if weight is not None and name not in self._before and self._copies and numeric(weight):
            self._before[name] = WeightCopy(weight, weight.detach().clone(), version_of(weight))
        return self._before.get(name)

    def receive(self, weight: Tensor, gradient: Tensor) -> None:
        """Called with a gradient that arrives at a weight, before it changes anything."""
        names = self._names.get(id(weight), [])
        if not names or not plain(gradient):
            return
        for name in names:
            self.reached.add(name)
            with self._unread.instead("gradient", name):
                self.gradients[name] = norm_of(gradient)
                self.before(name)

    def norms(self) -> dict[str, Tensor]:
        """The norm of each readable weight as it was before the backward."""
        norms = {}
        for name, weight in self.of.items():
            if weight is None:
                continue
            if not numeric(weight):
                self._unread.add("weight", name, f"it holds whole numbers ({weight.dtype}), whose scale is not known")
                continue
            with self._unread.instead("weight", name):
                before = self._before.get(name)
                norms[name] = norm_of(weight if before is None else before.copy)
        return norms
