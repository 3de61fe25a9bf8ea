"""Forward hooks that keep the outputs of named modules during one forward, and are removed after it."""

from collections.abc import Iterable
from typing import Any, Self

from torch import Tensor, nn

from degradation.networks.layout import Normalized, normalized


class Taps:
    """Outputs by module name: ``with Taps(network, names) as taps: network(x)`` fills ``taps.outputs``.

    For outputs of batch norm with batch statistics, ``taps.normalized`` holds their parts. The hooks exist only inside
    the block: an unmeasured step has none.
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
            if (parts := normalized(module, output)) is not None:
                self.normalized[name] = parts

        return hook
