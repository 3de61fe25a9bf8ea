"""A network that changes while it is recorded -> its new modules and weights, and the current one of a name."""

from collections.abc import Callable
from typing import Any, Self

from torch import Tensor
from torch.nn import Module, Parameter
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.nn.utils.parametrize import is_parametrized

from degradation.networks.layout import COMPILED, Layer, held_weight
from degradation.recording.notes import Notes


def module_at(network: Module, name: str) -> Module | None:
    """The module of that name; None if it is gone."""
    try:
        return network.get_submodule(name)
    except Exception:  # the ``__getattr__`` of a user's module may raise anything
        return None


def weight_at(network: Module, layer: Layer) -> Parameter | None:
    """The weight of a layer; None if it has none, or lost it.

    A computed weight is not read: computing it can change buffers, as the spectral norm does.
    """
    module = module_at(network, layer.name)
    if module is not None and is_parametrized(module, "weight"):
        return None
    try:
        return held_weight(network, layer)
    except Exception:
        return None


class Following:
    """Inside the block, calls back with the modules (by name) and the weights that are added to a network.

    A replaced module and weights loaded by assignment do not have the hooks of the old ones.
    """

    def __init__(
        self,
        network: Module,
        modules: Callable[[dict[str, Module]], None],
        weight: Callable[[Tensor], None],
        notes: Notes,
    ) -> None:
        self._network, self._modules, self._weight, self._notes = network, modules, weight, notes
        self._handles: list[Any] = []

    def __enter__(self) -> Self:
        self._handles = [
            register_module_module_registration_hook(self._placed),
            register_module_parameter_registration_hook(self._held),
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _placed(self, owner: Module, name: str, module: Module | None) -> None:
        if module is None:
            return
        try:
            paths = [path for path, part in self._network.named_modules(remove_duplicate=False) if part is owner]
            inner = dict(module.named_modules()) if paths else {}
            for weight in module.parameters() if paths else ():
                self._weight(weight)
            if paths:
                self._modules({_name(path, name, below): part for path in paths for below, part in inner.items()})
        except Exception as error:
            self._notes.failed(f"a new module {name}", error)

    def _held(self, owner: Module, name: str, weight: Parameter | None) -> None:
        try:
            if weight is not None and any(part is owner for part in self._network.modules()):
                self._weight(weight)
        except Exception as error:
            self._notes.failed(f"a new weight {name}", error)


def _name(*parts: str) -> str:
    """One of several names, without those of torch.compile's wrappers."""
    return ".".join(piece for piece in ".".join(parts).split(".") if piece not in ("", COMPILED))
