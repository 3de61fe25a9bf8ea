"""One measured step of somebody else's loop -> the numbers of every layer; no tensor of the network is kept."""

from collections import deque
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import Module, Parameter

from degradation.layout import Layer, Layout, held_weight, map_size, normalized
from degradation.probes import RESPONSES, Measurement
from degradation.probes.probe import norms
from degradation.recording.backwards import current

USES = 1000  # of one layer in one step; of more, the last are kept
Numbers = NDArray[np.float64]


@dataclass(kw_only=True)
class Use:
    """One call of a layer: what its response was, and the gradient that came back to it in which backward."""

    moments: Tensor
    """Mean, std, zero fraction: (3,)."""
    values: int
    answers: bool
    """Whether a gradient can come back at all."""
    backward: int | None = None
    gradient: Tensor | None = None
    """L2 norm, a scalar."""


@dataclass(frozen=True, kw_only=True)
class Heard:
    """The numbers of a step, a row for each layer of the Layout; NaN where a layer took no part."""

    gradients: Numbers
    """(layers, 5), the columns of the frame; without the update, which comes later."""
    responses: Numbers
    """(layers, 3): mean, std, zero fraction, pooled over the uses of the layer."""
    used: NDArray[np.bool_]
    """(layers,): whether there was a response, so that a NaN in it is one of the network."""
    answered: NDArray[np.bool_]
    """(layers,): whether a gradient came back to it."""

    def take(self, places: list[int]) -> "Heard":
        """The layers at ``places``, in their order."""
        return Heard(**{field.name: getattr(self, field.name)[places] for field in fields(self)})


class Listener:
    """Hooks on the layers of a network, from now until ``close``.

    A response is measured when it leaves its module, and its gradient is asked for there: what an in-place ReLU or
    addition writes over it afterwards changes neither. Forwards without gradients and those that a checkpointed
    backward repeats are not heard.
    """

    def __init__(self, network: Module, layout: Layout, *, responses: bool) -> None:
        self.layout, self._responses = layout, responses
        self.maps: dict[str, tuple[int, ...]] = {}
        """Feature-map size of each response, in the order of their first calls."""
        self.examples = 0
        """First dimension of the last response: the batch, where the batch comes first."""
        self._uses: dict[str, deque[Use]] = {}
        self._weight_gradients: dict[str, Tensor] = {}
        self._weights = {layer.name: held_weight(network, layer) for layer in layout.layers}
        self._handles: list[Any] = []
        for layer in layout.layers:
            module = network.get_submodule(layer.response or layer.name)
            if layer.response is not None:
                self._handles.append(module.register_forward_hook(partial(self._responded, layer)))
            weight = self._weights[layer.name]
            if weight is not None and weight.requires_grad:
                self._handles.append(weight.register_hook(partial(self._weight_reached, layer.name)))  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Remove every hook of the modules and weights."""
        for handle in self._handles:
            handle.remove()

    @property
    def weights(self) -> tuple[Parameter | None, ...]:
        """The weight of each layer."""
        return tuple(self._weights[layer.name] for layer in self.layout.layers)

    def _responded(self, layer: Layer, module: Module, _inputs: Any, returned: Any) -> None:
        # Asked while a graph is traced, this is a constant: the graph is as it would be without the hook.
        if torch.compiler.is_compiling() or not torch.is_grad_enabled() or current() >= 0:
            return
        output = returned[0] if isinstance(returned, tuple) else returned
        if not isinstance(output, Tensor) or not output.is_floating_point() or not output.numel():
            return
        name = str(layer.response)
        use = Use(moments=self._moments(layer, module, output), values=output.numel(), answers=output.requires_grad)
        self.maps.setdefault(name, map_size(module, output))
        self.examples = len(output) if output.ndim else 1
        self._uses.setdefault(name, deque(maxlen=USES)).append(use)
        if output.requires_grad:
            # The hook holds the use, and the use no tensor of the network: it goes when the graph goes.
            output.register_hook(partial(_came_back, use))  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def _moments(self, layer: Layer, module: Module, output: Tensor) -> Tensor:
        if not self._responses:
            return torch.full((3,), torch.nan, device=output.device)
        name, known = str(layer.response), normalized(module, output)
        alone = Measurement(
            layout=Layout(layers=(layer,), blocks=()),
            outputs={name: output.detach()},
            normalized={} if known is None else {name: known},
            output_gradients={},
            weights=(),
            weight_gradients=(),
            updates=None,
        )
        return RESPONSES.measure(alone)[0]

    def _weight_reached(self, name: str, gradient: Tensor) -> None:
        self._weight_gradients[name] = _norm(gradient)

    @torch.no_grad()
    def heard(self, backward: int, scale: float) -> Heard:
        """What took part in this backward, gradients divided by ``scale``; one transfer brings it to the host."""
        layers = self.layout.layers
        uses = [
            [use for use in self._uses.get(layer.response or "", ()) if use.backward == backward or not use.answers]
            for layer in layers
        ]
        missing = torch.full((), torch.nan)
        flat = [use for part in uses for use in part]
        scalars = [self._weight_gradients.get(layer.name, missing) for layer in layers]
        scalars += [missing if weight is None else _norm(weight) for weight in self.weights]
        scalars += [missing if use.gradient is None else use.gradient for use in flat]
        device = max((tensor.device for tensor in scalars), key=lambda place: place.type != "cpu")
        numbers = torch.cat(
            [torch.stack([tensor.to(device) for tensor in scalars]), *(u.moments.to(device) for u in flat)]
        )
        found = numbers.cpu().numpy().astype(np.float64)
        of_weights, of_uses = found[: 2 * len(layers)].reshape(2, -1), found[2 * len(layers) :]
        each = np.column_stack([of_uses[: len(flat)], of_uses[len(flat) :].reshape(-1, 3)])
        pooled = _pooled(uses, each)
        gradients = np.column_stack(
            [of_weights[0] / scale, of_weights[1], of_weights[1] * np.nan, pooled[:, :2] / scale]
        )
        return Heard(
            gradients=gradients,
            responses=pooled[:, 2:],
            used=np.array([bool(part) for part in uses]),
            answered=np.array([any(use.gradient is not None for use in part) for part in uses]),
        )


def _came_back(use: Use, gradient: Tensor) -> None:
    use.backward, use.gradient = current(), _norm(gradient)


@torch.no_grad()
def _norm(tensor: Tensor) -> Tensor:
    dense = tensor.detach().coalesce().values() if tensor.is_sparse else tensor.detach()
    return norms([dense])[0]


def _pooled(uses: list[list[Use]], each: Numbers) -> Numbers:
    """(layers, 5): gradient norm and rms, mean, std, zero fraction over all values of all uses of each layer.

    ``each`` has a row for each use: gradient norm, mean, std, zero fraction. A variance is the mean of the variances
    plus the variance of the means.
    """
    rows, first = np.full((len(uses), 5), np.nan), 0
    for place, part in enumerate(uses):
        if not part:
            continue
        gradient, mean, std, zeros = each[first : first + len(part)].T
        first += len(part)
        values = np.array([use.values for use in part], dtype=np.float64)
        share = values / values.sum()
        norm = np.sqrt((gradient**2).sum())
        centre = (share * mean).sum()
        with np.errstate(invalid="ignore"):  # infinite minus infinite
            spread = np.sqrt((share * (std**2 + (mean - centre) ** 2)).sum())
        rows[place] = [norm, norm / np.sqrt(values.sum()), centre, spread, (share * zeros).sum()]
    return rows
