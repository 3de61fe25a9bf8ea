"""One measured step of somebody else's loop -> the numbers of every layer; no tensor of the network is kept."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import Module, Parameter

from degradation.layout import Layer, Layout, held_weight, map_size, normalized, statistics_of
from degradation.probes import RESPONSES, Measurement
from degradation.recording.backwards import current
from degradation.recording.copies import Hook, Hooked
from degradation.recording.tensors import norm_of, plain, size_of, sum_of, when_answered

USES = 1000  # of one layer in one step; of more, the last are kept
Numbers = NDArray[np.float64]


@dataclass(kw_only=True)
class Use:
    """One call of a layer: what its response was, and the gradient that came back to it in which backward."""

    moments: Tensor
    """Mean, std, zero fraction: (3,)."""
    values: int
    statistics: str
    answers: bool
    """Whether a gradient can come back at all."""
    forward: int
    """Number of the network's forward that it belongs to."""
    backward: int | None = None
    gradient: Tensor | None = None
    """L2 norm, and the share of values that are not zero: (2,)."""


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
    measured: NDArray[np.bool_]
    """(layers,): whether responses are measured at all."""
    weighted: NDArray[np.bool_]
    """(layers,): whether there is a weight."""
    reached: NDArray[np.bool_]
    """(layers,): whether a gradient came to it."""
    silent: Numbers
    """(layers,): share of the values of a response whose gradient is exactly zero, as behind a ReLU that is off."""
    statistics: NDArray[np.str_]
    """(layers,): the batch statistics of the response, as ``layout.statistics_of`` says them."""

    def take(self, places: list[int]) -> "Heard":
        """The layers at ``places``, in their order."""
        return Heard(**{field.name: getattr(self, field.name)[places] for field in fields(self)})


class Listener:
    """Hooks on the layers of a network, from now until ``close``.

    A response is measured when it leaves its module, and its gradient is asked for there: what an in-place ReLU or
    addition writes over it afterwards changes neither. Forwards without gradients and those that a checkpointed
    backward repeats are not heard.
    """

    def __init__(self, network: Module, layout: Layout, *, responses: bool, again: Callable[[int], None]) -> None:
        self.layout, self._responses, self._again = layout, responses, again
        self.paused = False
        """While true nothing is heard."""
        self.repeated = False
        """Whether a backward called a layer that the forward had not: reentrant checkpointing does."""
        self.first: str | None = None
        """The layer that was called first."""
        self.input_finite = True
        """Whether its input was finite, after ``heard``."""
        self._called: set[str] = set()
        self.maps: dict[str, tuple[int, ...]] = {}
        """Feature-map size of each response, in the order of their first calls."""
        self.examples = 0
        """First dimension of the last response: the batch, where the batch comes first."""
        self._closed = False
        self._input = torch.zeros(())
        self._uses: dict[str, deque[Use]] = {}
        self._weight_gradients: dict[str, Tensor] = {}
        self._weights = {layer.name: held_weight(network, layer) for layer in layout.layers}
        self._modules = {
            layer.name: network.get_submodule(layer.response) for layer in layout.layers if layer.response is not None
        }
        self._hooked = Hooked()
        self._forwards = 0
        self._hooked.add(network, Hook(self._passed))
        self._handles: list[Any] = []
        for layer in layout.layers:
            if layer.response is not None:
                self._hooked.add(self._modules[layer.name], Hook(self._responded, layer))
            weight = self._weights[layer.name]
            if weight is not None and weight.requires_grad:
                self._handles.append(weight.register_hook(partial(self._weight_reached, layer.name)))  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Remove every hook of the modules and weights; those of responses go with their graph, and hear no more."""
        self._closed = True
        self._hooked.remove()
        for handle in self._handles:
            handle.remove()

    @property
    def weights(self) -> tuple[Parameter | None, ...]:
        """The weight of each layer."""
        return tuple(self._weights[layer.name] for layer in self.layout.layers)

    @property
    def idle(self) -> set[str]:
        """The trained layers whose module was not called, in any way, and to whose weight no gradient came."""
        trained = [name for name, weight in self._weights.items() if weight is not None and weight.requires_grad]
        return {name for name in trained if name in self._modules} - self._called - set(self._weight_gradients)

    def _passed(self, _module: Module, _inputs: Any, _returned: Any) -> None:
        if not torch.compiler.is_compiling():
            self._forwards += 1

    def _responded(self, layer: Layer, module: Module, inputs: Any, returned: Any) -> None:
        # Asked while a graph is traced, this is a constant: the graph is as it would be without the hook.
        if torch.compiler.is_compiling():
            return
        self._called.add(layer.name)
        if not torch.is_grad_enabled() or self.paused:
            return
        name = str(layer.response)
        if current() >= 0:
            self.repeated = self.repeated or name not in self._uses
            return
        output = returned
        while isinstance(output, tuple) and output:  # of an attention, of an LSTM, of packed sequences
            output = output[0]
        if not isinstance(output, Tensor) or not plain(output) or not output.is_floating_point() or not output.numel():
            return
        if self.first is None:
            self.first, self._input = layer.name, sum_of(inputs)
        use = Use(
            moments=self._moments(layer, module, output),
            values=output.numel(),
            statistics=statistics_of(module),
            answers=output.requires_grad,
            forward=self._forwards,
        )
        self.maps.setdefault(name, map_size(module, output))
        self.examples = len(output) if output.ndim else 1
        self._uses.setdefault(name, deque(maxlen=USES)).append(use)
        if output.requires_grad:
            # The hook holds the use, and the use no tensor of the network: it goes when the graph goes.
            when_answered(output, partial(self._came_back, use))

    def _came_back(self, use: Use, gradient: Tensor) -> None:
        if self._closed:
            self._again(current())
        elif plain(gradient):
            use.backward, use.gradient = current(), size_of(gradient)

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
        if not self.paused and plain(gradient):
            self._weight_gradients[name] = norm_of(gradient)

    @torch.no_grad()
    def heard(self, backward: int, scale: float) -> Heard:
        """What took part in this backward, gradients divided by ``scale``; one transfer brings it to the host."""
        layers = self.layout.layers
        answered = {use.forward for uses in self._uses.values() for use in uses if use.backward == backward}
        uses = [self._part_in(backward, answered, layer) for layer in layers]
        flat = [use for part in uses for use in part]
        of_weights, of_uses, self.input_finite = self._brought(flat)
        pooled = _pooled(uses, of_uses)
        missing = np.full(len(layers), np.nan)
        gradients = np.column_stack([of_weights[0] / scale, of_weights[1], missing, pooled[:, :2] / scale])
        return Heard(
            gradients=gradients,
            responses=pooled[:, 2:5],
            used=np.array([bool(part) for part in uses]),
            answered=np.array([any(use.gradient is not None for use in part) for part in uses]),
            measured=np.full(len(layers), self._responses),
            weighted=np.array([weight is not None for weight in self.weights]),
            reached=np.array([layer.name in self._weight_gradients for layer in layers]),
            silent=pooled[:, 5],
            statistics=np.array([self._statistics(layer, part) for layer, part in zip(layers, uses, strict=True)]),
        )

    def _part_in(self, backward: int, answered: set[int], layer: Layer) -> list[Use]:
        """The uses of a layer that a backward went through, and those without gradient of the same forwards.

        ``answered`` are the numbers of these forwards; where no use was answered, all without gradient count.
        """
        return [
            use
            for use in self._uses_of(layer)
            if use.backward == backward or (not use.answers and (not answered or use.forward in answered))
        ]

    def _uses_of(self, layer: Layer) -> Sequence[Use]:
        return () if layer.response is None else self._uses.get(layer.response, ())

    def _statistics(self, layer: Layer, uses: list[Use]) -> str:
        if uses:
            return uses[-1].statistics
        return statistics_of(self._modules[layer.name]) if layer.name in self._modules else ""

    def _brought(self, uses: list[Use]) -> tuple[Numbers, Numbers, bool]:
        """To the host: norms of gradients and weights (2, layers); the numbers of each use, as ``_pooled`` takes them.

        And whether the input was finite.
        """
        missing, unknown = torch.full((), torch.nan), torch.full((2,), torch.nan)
        scalars = [self._weight_gradients.get(layer.name, missing) for layer in self.layout.layers]
        scalars += [missing if weight is None else norm_of(weight) for weight in self.weights]
        scalars.append(self._input)
        wide = [part for use in uses for part in (use.moments, unknown if use.gradient is None else use.gradient)]
        device = max((tensor.device for tensor in [*scalars, *wide]), key=lambda place: place.type != "cpu")
        numbers = torch.cat([torch.stack([one.to(device) for one in scalars]), *(part.to(device) for part in wide)])
        found = numbers.cpu().numpy().astype(np.float64)
        count = 2 * len(self.layout.layers)
        finite = bool(np.isfinite(found[count]))
        return found[:count].reshape(2, -1), found[count + 1 :].reshape(-1, 5), finite


def _pooled(uses: list[list[Use]], each: Numbers) -> Numbers:
    """(layers, 6): gradient norm and rms, mean, std, zero fraction, silent share over all values of all uses.

    ``each`` has a row for each use: mean, std, zero fraction, gradient norm, share of gradients not zero. A variance is
    the mean of the variances plus the variance of the means. Gradients are those of the uses that one came back to.
    """
    rows, first = np.full((len(uses), 6), np.nan), 0
    for place, part in enumerate(uses):
        if not part:
            continue
        mean, std, zeros, gradient, alive = each[first : first + len(part)].T
        first += len(part)
        values = np.array([use.values for use in part], dtype=np.float64)
        share = values / values.sum()
        answered = np.array([use.gradient is not None for use in part])
        norm, reached = np.sqrt((gradient[answered] ** 2).sum()), values[answered].sum()
        if not answered.any():
            norm = reached = np.nan
        centre = (share * mean).sum()
        with np.errstate(invalid="ignore"):  # infinite minus infinite
            silent = 1 - (values * alive)[answered].sum() / reached
            spread = np.sqrt((share * (std**2 + (mean - centre) ** 2)).sum())
            at_most_zero = (share * zeros).sum() + 0 * spread  # of NaN it is not known
        rows[place] = [norm, norm / np.sqrt(reached), centre, spread, at_most_zero, silent]
    return rows
