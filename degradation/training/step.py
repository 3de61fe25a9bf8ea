"""One training step as a function over buffers that stay in place: batch, forward, backward, probes, update."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from degradation.data.batches import CHECKSUM_FACTOR, Batches
from degradation.environment import Environment
from degradation.layout import norms, weight_of
from degradation.networks.cifar import CifarNetwork
from degradation.probes import Measurement, Probe, Taps
from degradation.spec import Recipe
from degradation.training.recipe import accumulate_momentum, update_weights

NEVER = -1


class State:
    """Everything that a step changes, on the device; ``tensors`` names it for the checkpoint."""

    def __init__(self, network: CifarNetwork, device: torch.device) -> None:
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self.weights: list[Tensor] = list(self.network.parameters())
        self.momentum = [torch.zeros_like(weight, requires_grad=False) for weight in self.weights]
        self.step = torch.zeros((), dtype=torch.int64, device=device)
        self.learning_rate = torch.zeros((), device=device)
        self.sums = torch.zeros(2, device=device)  # loss, wrong answers; over the examples since the last row
        self.first_nonfinite = torch.full((), NEVER, dtype=torch.int64, device=device)
        self.checksum = torch.zeros((), dtype=torch.int64, device=device)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that must survive for the run to continue exactly, by name."""
        named = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        buffers = {
            f"momentum.{name}": buffer
            for (name, _), buffer in zip(self.network.named_parameters(), self.momentum, strict=True)
        }
        scalars = {name: getattr(self, name) for name in ("step", "sums", "first_nonfinite", "checksum")}
        return named | buffers | scalars

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Copy back, in place, what ``tensors`` gave."""
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])


class Stepper:
    """Carries out the steps of one run, with or without probes."""

    def __init__(self, state: State, batches: Batches, recipe: Recipe, environment: Environment) -> None:
        self.state, self.batches, self.recipe, self.environment = state, batches, recipe, environment
        self.layout = state.network.layout
        self._layers = tuple(weight_of(state.network, layer) for layer in self.layout.layers)
        places = {id(weight): place for place, weight in enumerate(state.weights)}
        self._places = [places[id(weight)] for weight in self._layers]

    def train(self, probes: Sequence[Probe] = ()) -> list[Tensor]:
        """One update; what each probe measured, on the device: the network before it, the update itself."""
        state = self.state
        images, labels, used = self.batches.fill(state.step)
        loss, logits, measured = self._differentiate(images, labels, probes, update=True)
        update_weights(state.learning_rate, state.weights, state.momentum)
        self._account(loss, logits, labels, used)
        return measured

    def measure(self, probes: Sequence[Probe]) -> list[Tensor]:
        """What each probe measures at the last step: its batch is drawn and not trained on, buffers untouched."""
        images, labels, _ = self.batches.fill(self.state.step)
        with batch_statistics(self.state.network):
            return self._differentiate(images, labels, probes, update=False)[2]

    def _differentiate(
        self, images: Tensor, labels: Tensor, probes: Sequence[Probe], update: bool
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Forward, backward, and the new momentum; then the probes, before the weights change."""
        state = self.state
        with Taps(state.network, [name for probe in probes for name in probe.needs(self.layout)]) as taps:
            logits = forward(state.network, images, self.environment)
        loss = F.cross_entropy(logits, labels)
        wanted = dict.fromkeys(name for probe in probes if probe.gradients for name in probe.needs(self.layout))
        found = torch.autograd.grad(loss, [*state.weights, *(taps.outputs[name] for name in wanted)])
        gradients, output_gradients = found[: len(state.weights)], found[len(state.weights) :]
        if update:
            accumulate_momentum(self.recipe, state.momentum, state.weights, list(gradients))
        if not probes:
            return loss, logits, []
        seen = Measurement(
            layout=self.layout,
            outputs={name: output.detach() for name, output in taps.outputs.items()},
            output_gradients=dict(zip(wanted, output_gradients, strict=True)),
            weights=tuple(weight.detach() for weight in self._layers),
            weight_gradients=tuple(gradients[place] for place in self._places),
            momentum=tuple(state.momentum[place] for place in self._places),
            update_scale=state.learning_rate if update else None,
        )
        return loss, logits, [probe.measure(seen) for probe in probes]

    @torch.no_grad()
    def _account(self, loss: Tensor, logits: Tensor, labels: Tensor, used: Tensor) -> None:
        """Running sums, the first non-finite loss, the order checksum and the step counter, all on the device."""
        state = self.state
        wrong = (logits.argmax(1) != labels).sum()
        state.sums += torch.stack([loss.detach() * len(labels), wrong])
        first = (state.first_nonfinite == NEVER) & ~torch.isfinite(loss)
        state.first_nonfinite.copy_(torch.where(first, state.step, state.first_nonfinite))
        state.checksum.mul_(CHECKSUM_FACTOR).add_(used)
        state.step += 1


def forward(network: nn.Module, images: Tensor, environment: Environment) -> Tensor:
    """Logits in float32, (N, 10); the layers in bfloat16 with float32 weights where the precision says so."""
    bf16 = environment.precision == "bf16"
    with torch.autocast(environment.torch_device.type, dtype=torch.bfloat16, enabled=bf16):
        logits: Tensor = network(images)
    return logits.float()


@contextmanager
def batch_statistics(network: nn.Module) -> Iterator[None]:
    """Batch norm with the statistics of the batch, its running ones neither read nor written."""
    before = [(norm, norm.training, norm.track_running_stats) for norm in norms(network)]
    for norm, _, _ in before:
        norm.training, norm.track_running_stats = True, False
    try:
        yield
    finally:
        for norm, training, tracking in before:
            norm.training, norm.track_running_stats = training, tracking
