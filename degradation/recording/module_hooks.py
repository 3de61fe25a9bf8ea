"""One measured step of the user's loop -> the numbers of every layer; no tensor of the network is kept."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module

from degradation.networks.layout import (
    Layer,
    Layout,
    channels_of,
    is_transposed_linear,
    map_size,
    may_be_linear,
    norm_statistics,
    normalized,
)
from degradation.probes import RESPONSES, Measurement
from degradation.recording.backward_hooks import current
from degradation.recording.copyable_hooks import Hook, Hooked
from degradation.recording.following import module_at
from degradation.recording.notes import Unread
from degradation.recording.tensors import finite_of, first_tensor, plain, real, size_of, when_answered
from degradation.recording.uses import LayerCall, Numbers, StepStats, pooled
from degradation.recording.weights import Weights

USES = 1000  # most calls of a layer per step; of more, the last are kept


class Listener:
    """Hooks on the layers of a network, from now until ``close``.

    A response is measured when it leaves its module, and its gradient is hooked there: an in-place ReLU or addition
    afterwards changes neither. Forwards without gradients and those that a checkpointed backward repeats are
    ignored. Unreadable values are in ``unread``, and raise nothing.
    ``copies``: copy the weights before the step changes them. ``passed`` is called after a forward with gradients
    enabled, ``again`` with the number of a backward that goes through a forward of an earlier step.
    """

    def __init__(
        self,
        network: Module,
        layout: Layout,
        passed: Callable[[], None],
        again: Callable[[int], None],
        *,
        copies: bool,
        responses: bool,
    ) -> None:
        self.layout, self._network, self._responses = layout, network, responses
        self._on_forward, self._on_old_forward = passed, again
        self.paused = False
        """While true nothing is measured."""
        self.repeated = False
        """Whether a backward called a layer that the forward did not: reentrant checkpointing does."""
        self.empty = False
        """Whether a response had no values."""
        self.unread = Unread()
        self.first: str | None = None
        """The layer that was called first."""
        self.input_finite = True
        """Whether its input was finite, after ``step_stats``."""
        self._called: set[str] = set()
        self._linear: set[str] = set()
        self.maps: dict[str, tuple[int, ...]] = {}
        """Feature-map size of each response, in the order of their first calls."""
        self.examples = 0
        """First dimension of the last response: the batch size, if the batch comes first."""
        self._closed = False
        self._input = torch.ones(())
        self._uses: dict[str, deque[LayerCall]] = {}
        self.weights = Weights(network, layout, self.unread, copies=copies)
        self._modules: dict[str, Module] = {}
        self._hooked = Hooked()
        self._forwards = 0
        try:
            self._hooked.add(None, network, Hook(self._passed))
            self.update_modules(self._present())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove every hook of the modules; those of responses are freed with their graph."""
        if not self._closed:
            self._closed = True
            self._hooked.remove()

    def _present(self) -> dict[str, Module]:
        """The modules of the weights and of the responses that the network has now."""
        layers = [(layer.name, layer.response) for layer in self.layout.layers]
        names = {name for pair in layers if pair[1] is not None for name in pair if name is not None}
        return {name: module for name in names if (module := module_at(self._network, name)) is not None}

    def update_modules(self, modules: Mapping[str, Module]) -> None:
        """Hook the modules that replaced others."""
        for layer in self.layout.layers:
            with self.unread.instead("response", layer.name):  # a scripted module accepts no hook
                self._listen_to(layer, modules)

    def _listen_to(self, layer: Layer, modules: Mapping[str, Module]) -> None:
        module = None if layer.response is None else modules.get(layer.response)
        if module is not None:
            self._modules[layer.name] = module
            self._hooked.add(layer.name, module, Hook(self._responded, layer))
        # With a norm after it, the response's module is not the first that an input reaches. (The projection
        # within an attention comes later than the attention, and is never called.)
        weighted = modules.get(layer.name)
        if weighted is not None and not layer.name.startswith(str(layer.response)):
            self._hooked.add(f"input of {layer.name}", weighted, Hook(self._entered, layer))

    @property
    def idle(self) -> set[str]:
        """The trained layers whose module was not called and whose weight got no gradient."""
        return (self.weights.trained & set(self._modules)) - self._called - self.weights.reached

    @property
    def answering(self) -> list[str]:
        """The layers whose calls could return a gradient; of an attention or an LSTM, all weights."""
        layers = self.layout.layers
        modules = {str(layer.response) for layer in layers if any(use.answers for use in self._uses_of(layer))}
        return [
            layer.name
            for layer in layers
            if (layer.response or layer.name) in modules
            or (layer.response is None and layer.name.rpartition(".")[0] in modules)
        ]

    def sure(self) -> tuple[Layer, ...]:
        """The layers, without possible linear ones that turned out not to be; all, if none is left."""
        doubtful = {name for name, module in self._modules.items() if may_be_linear(module)} - self._linear
        return tuple(layer for layer in self.layout.layers if layer.name not in doubtful) or self.layout.layers

    def _passed(self, _module: Module, _inputs: Any, _returned: Any) -> None:
        if not torch.compiler.is_compiling():
            self._forwards += 1
            if torch.is_grad_enabled():
                self._on_forward()

    def _entered(self, layer: Layer, _module: Module, inputs: Any, _returned: Any) -> None:
        if torch.compiler.is_compiling() or not torch.is_grad_enabled() or self.paused or current() >= 0:
            return
        with self.unread.instead("input", layer.name):
            if self.first is None and all(plain(value) for value in inputs if isinstance(value, Tensor)):
                self.first, self._input = layer.name, finite_of(inputs)

    def _responded(self, layer: Layer, module: Module, inputs: Any, returned: Any) -> None:
        # While a graph is traced, this is a constant: the graph is the same as without the hook.
        if torch.compiler.is_compiling():
            return
        self._called.add(layer.name)
        if not torch.is_grad_enabled() or self.paused:
            return
        if current() >= 0:
            self.repeated = self.repeated or layer.response not in self._uses
            return
        with self.unread.instead("response", layer.name):
            output = first_tensor(returned)
            if output is None:
                dtype = f" of {returned.dtype}" if isinstance(returned, Tensor) else " without a tensor of floats"
                self.unread.add("response", layer.name, f"it is a {type(returned).__name__}{dtype}")
            elif plain(output):
                self._measure(layer, module, inputs, output)

    def _measure(self, layer: Layer, module: Module, inputs: Any, output: Tensor) -> None:
        if not output.numel():
            self.empty = True
            return
        name = str(layer.response)
        if is_transposed_linear(module, inputs, output):
            self._linear.add(layer.name)
        if self.first is None:
            self.first, self._input = layer.name, finite_of(inputs)
        use = LayerCall(
            moments=self._moments(layer, module, output),
            values=output.numel(),
            channels=channels_of(module, output),
            statistics=norm_statistics(module),
            answers=output.requires_grad,
            forward=self._forwards,
        )
        self.maps.setdefault(name, map_size(module, output))
        self.examples = len(output) if output.ndim else 1
        self._uses.setdefault(name, deque(maxlen=USES)).append(use)
        if output.requires_grad:
            # The hook holds the use, and the use holds no tensor of the network: it is freed with the graph.
            when_answered(output, partial(self._came_back, layer.name, use))

    def _came_back(self, name: str, use: LayerCall, gradient: Tensor) -> None:
        if self._closed:
            self._on_old_forward(current())
        elif plain(gradient):
            use.backward = current()
            with self.unread.instead("gradient of the response", name):
                use.gradient = size_of(gradient)

    @torch.no_grad()
    def _moments(self, layer: Layer, module: Module, output: Tensor) -> Tensor:
        if not self._responses:
            return torch.full((3,), torch.nan, device=output.device)
        name, parts = str(layer.response), normalized(module, output)
        measurement = Measurement(
            layout=Layout(layers=(layer,), blocks=()),
            outputs={name: real(output.detach())},
            normalized={} if parts is None else {name: parts},
            output_gradients={},
            weights=(),
            weight_gradients=(),
            updates=None,
        )
        return RESPONSES.measure(measurement)[0]

    def reached(self, weight: Tensor, gradient: Tensor) -> None:
        """Called with a gradient that arrives at a weight of the network."""
        if not self.paused:
            self.weights.receive(weight, gradient)

    @torch.no_grad()
    def step_stats(self, backward: int, scale: float) -> StepStats:
        """The numbers of this backward, gradients divided by ``scale``, in one transfer to the host."""
        layers = self.layout.layers
        present = self._present()
        for layer in layers:
            if layer.response in present and present[layer.response] is not self._modules.get(layer.name):
                self.unread.add("response", layer.name, "another module replaced it during the step")
        answered = {use.forward for uses in self._uses.values() for use in uses if use.backward == backward}
        uses = [self._part_in(backward, answered, layer) for layer in layers]
        flat = [use for part in uses for use in part]
        norms = self.weights.norms()
        of_weights, of_uses, self.input_finite = self._brought(norms, flat)
        rows = pooled(uses, of_uses)
        missing = np.full(len(layers), np.nan)
        gradients = np.column_stack([of_weights[0] / scale, of_weights[1], missing, rows[:, :2] / scale])
        return StepStats(
            gradients=gradients,
            responses=rows[:, 2:5],
            used=np.array([bool(part) for part in uses]),
            answered=np.array([any(use.gradient is not None for use in part) for part in uses]),
            measured=np.full(len(layers), self._responses),
            weighted=np.array([layer.name in norms for layer in layers]),
            reached=np.array([layer.name in self.weights.gradients for layer in layers]),
            silent=rows[:, 5],
            channels=np.array([float(part[-1].channels) if part else np.nan for part in uses]),
            statistics=np.array([self._statistics(layer, part) for layer, part in zip(layers, uses, strict=True)]),
        )

    def _part_in(self, backward: int, answered: set[int], layer: Layer) -> list[LayerCall]:
        """The uses of a layer that a backward went through, and those without gradient of the same forwards.

        ``answered`` are the numbers of these forwards; if there are none, all uses without gradient count.
        """
        return [
            use
            for use in self._uses_of(layer)
            if use.backward == backward or (not use.answers and (not answered or use.forward in answered))
        ]

    def _uses_of(self, layer: Layer) -> Sequence[LayerCall]:
        return () if layer.response is None else self._uses.get(layer.response, ())

    def _statistics(self, layer: Layer, uses: list[LayerCall]) -> str:
        if uses:
            return uses[-1].statistics
        return norm_statistics(self._modules[layer.name]) if layer.name in self._modules else ""

    def _brought(self, norms: Mapping[str, Tensor], uses: list[LayerCall]) -> tuple[Numbers, Numbers, bool]:
        """To the host: norms of gradients and weights (2, layers); the numbers of each use, as ``pooled`` takes them.

        And whether the input was finite.
        """
        layers = self.layout.layers
        scalars = [by_layer.get(layer.name) for by_layer in (self.weights.gradients, norms) for layer in layers]
        scalars.append(self._input)
        wide = [part for use in uses for part in (use.moments, use.gradient)]
        devices = [tensor.device for tensor in [*scalars, *wide] if tensor is not None]
        device = max(devices, key=lambda place: place.type != "cpu")
        missing, unknown = (torch.full((count,), torch.nan, device=device) for count in (1, 2))
        parts = [missing if scalar is None else scalar.to(device).reshape(1) for scalar in scalars]
        parts += [unknown if part is None else part.to(device) for part in wide]
        numbers = torch.cat(parts).cpu().numpy().astype(np.float64)
        count = 2 * len(layers)
        return numbers[:count].reshape(2, -1), numbers[count + 1 :].reshape(-1, 5), bool(numbers[count])
