"""Forward hooks that keep the outputs of named modules during one forward, and are gone after it."""

from collections.abc import Iterable
from typing import Any, Self

from torch import Tensor, nn

from degradation.networks.layout import Normalized, normalized


class Taps:
    """``with Taps(network, names) as taps: network(x)`` leaves the outputs in ``taps.outputs`` by module name.

    ``taps.normalized`` holds, for outputs of batch norm with batch statistics, what made them. The hooks exist only
    inside the block: an unmeasured step has none.
    """

    def __init__(self, network: nn.Module, names: Iterable[str]) -> None:
        self.outputs: dict[str, Tensor] = {}
        self.normalized: dict[str, Normalized] = {}
        self._modules = {name: network.get_submodule(name) for name in dict.fromkeys(names)}
        self._handles: list[Any] = []

    def __enter__(self) -> Self:
        self._handles = [module.register_forward_hook(self._keep(name)) for name, module in self._modules.items()]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _keep(self, name: str) -> Any:
        def hook(module: nn.Module, _inputs: Any, output: Tensor) -> None:
            self.outputs[name] = output
            if (known := normalized(module, output)) is not None:
                self.normalized[name] = known

        return hook
