"""One training step as a function over buffers that stay in place: batch, forward, backward, probes, update."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from degradation.data.batches import CHECKSUM_FACTOR
from degradation.data.loaders import TrainingBatches
from degradation.networks import AnyNetwork
from degradation.networks.layout import norms, weight_of
from degradation.probes import PROBE_REGISTRY, Measurement, Probe, Readings, Taps
from degradation.runtime.environment import Environment
from degradation.spec import Recipe, RunSpec
from degradation.training.compiled_blocks import compiled
from degradation.training.cuda_graph import Capture, Log
from degradation.training.ghost_batches import GhostBatches, PartResult, RunningStatistics, share_of_loss
from degradation.training.lr_schedule import LearningRate
from degradation.training.optimizers import OPTIMIZERS

STATISTICS = ("batch", "running")
NEVER = -1


class State:
    """Everything that a step changes, on the device; ``tensors`` gives it by name for the checkpoint."""

    def __init__(self, network: AnyNetwork, recipe: Recipe, device: torch.device) -> None:
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self.weights: list[Tensor] = list(self.network.parameters())
        self.optimizer = OPTIMIZERS[recipe.optimizer](recipe, self.weights)
        self.step = torch.zeros((), dtype=torch.int64, device=device)
        self.row = torch.zeros((), dtype=torch.int64, device=device)  # first row of a part in the batch
        self.network.bind_step_counter(self.step, self.row)
        self.sums = torch.zeros(2, device=device)  # loss, wrong answers; over the examples since the last row
        self.first_nonfinite = torch.full((), NEVER, dtype=torch.int64, device=device)
        self.checksum = torch.zeros((), dtype=torch.int64, device=device)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that the run needs to continue exactly, by name."""
        named = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        names = [name for name, _ in self.network.named_parameters()]
        buffers = {
            f"{kind}.{name}": buffer
            for kind, tensors in self.optimizer.buffers.items()
            for name, buffer in zip(names, tensors, strict=True)
        }
        scalars = {name: getattr(self, name) for name in ("step", "sums", "first_nonfinite", "checksum")}
        return named | buffers | scalars

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Copy the result of ``tensors`` back, in place."""
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """Restore everything at the end: steps inside are rehearsals."""
        before = {name: tensor.detach().clone() for name, tensor in self.tensors().items()}
        try:
            yield
        finally:
            self.restore(before)


class Stepper:
    """Executes the steps of one run, with or without its probes.

    If the environment captures, each of the two kinds of step is one CUDA graph; if that is not possible, ``say`` gets
    a line and the same function is called instead.
    """

    def __init__(
        self,
        state: State,
        batches: TrainingBatches,
        run: RunSpec,
        environment: Environment,
        say: Log,
        parts: GhostBatches | None = None,
    ) -> None:
        self.state, self.batches, self.environment = state, batches, environment
        self.parts = parts or GhostBatches.of(run)
        self._statistics = RunningStatistics(state.network, self.parts, environment.sync_batch_norm)
        self.layout = state.network.layout
        self.probes = tuple(PROBE_REGISTRY[name] for name in run.measure.probes)
        self._rate = LearningRate(run.recipe, environment.torch_device)
        self._layers = tuple(weight_of(state.network, layer) for layer in self.layout.layers)
        places = {id(weight): place for place, weight in enumerate(state.weights)}
        self._places = [places[id(weight)] for weight in self._layers]
        capture = Capture(environment=environment, rehearsal=state.untouched, say=say)
        self.train: Callable[[], Tensor] = capture(lambda: self._update(()))
        """One update."""
        self.train_measured: Callable[[], Tensor] = capture(lambda: self._update(self.probes))
        """One update; returns the readings, on the device, of the network before it and of the update."""

    def measure(self) -> Tensor:
        """The readings at the last step: its batch is drawn and not trained on, buffers stay unchanged."""
        images, labels, _ = self.batches.fill(self.state.step)
        with batch_statistics(self.state.network):
            passes, _, gradients, _ = self._passes(images, labels, self.probes)
            return self._read(self.probes, passes, gradients, None)

    def _update(self, probes: Sequence[Probe]) -> Tensor:
        """Batch, forward, backward, then the probes before the weights change; all work is on the device."""
        state = self.state
        images, labels, used = self.batches.fill(state.step)
        passes, loss, gradients, statistics = self._passes(images, labels, probes)
        updates = state.optimizer.updates(state.weights, gradients, self._rate(state.step), state.step)
        reading = self._read(probes, passes, gradients, updates) if probes else loss
        with torch.no_grad():
            torch._foreach_sub_(state.weights, updates)
        self._statistics.set(statistics)
        self._account(loss, torch.cat([each.logits for each in passes]), labels, used)
        return reading

    def _passes(
        self, images: Tensor, labels: Tensor, probes: Sequence[Probe]
    ) -> tuple[list[PartResult], Tensor, list[Tensor], list[Tensor]]:
        """Forward and backward of this process's parts of the batch.

        Returns the result of each part, and for the whole batch the mean loss, its gradients, and the sum of the
        running statistics after each part.
        """
        passes: list[PartResult] = []
        total: list[Tensor] = []
        for first, own_images, own_labels in self.parts.split(images, labels):
            if not self.parts.one:
                self.state.row.fill_(first)
            with self._statistics.of_a_part() as statistics:
                loss, logits, taps = self._forward(own_images, own_labels, probes)
                gradients, output_gradients = self._backward(loss, taps, probes)
            passes.append(PartResult(logits=logits.detach(), taps=taps, output_gradients=output_gradients))
            tensors = [loss.detach(), *gradients, *statistics]
            total = list(torch._foreach_add(total, tensors)) if total else tensors
        loss, *summed = self.parts.team.sums(total)
        count = len(self.state.weights)
        return passes, loss, summed[:count], summed[count:]

    def _forward(self, images: Tensor, labels: Tensor, probes: Sequence[Probe]) -> tuple[Tensor, Tensor, Taps]:
        """Share of the mean loss, logits, and the outputs that the probes need."""
        network = self.state.network
        # A compiled block has no modules left to hook, so a measured step is not compiled.
        compiling = compiled(network) if self.environment.compile and not probes else nullcontext()
        with compiling, Taps(network, [name for probe in probes for name in probe.needs(self.layout)]) as taps:
            logits = forward(network, images, self.environment)
        return share_of_loss(logits, labels, self.parts), logits, taps

    def _backward(self, loss: Tensor, taps: Taps, probes: Sequence[Probe]) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Gradients of the mean loss: of every weight, and by name of the outputs for which a probe needs them."""
        weights = self.state.weights
        names = dict.fromkeys(name for probe in probes if probe.gradients for name in probe.needs(self.layout))
        gradients = torch.autograd.grad(loss, [*weights, *(taps.outputs[name] for name in names)])
        return list(gradients[: len(weights)]), dict(zip(names, gradients[len(weights) :], strict=True))

    @torch.no_grad()
    def _read(
        self,
        probes: Sequence[Probe],
        passes: Sequence[PartResult],
        gradients: list[Tensor],
        updates: list[Tensor] | None,
    ) -> Tensor:
        measurements = [
            Measurement(
                layout=self.layout,
                outputs={name: output.detach() for name, output in each.taps.outputs.items()},
                normalized=each.taps.normalized,
                output_gradients=each.output_gradients,
                weights=tuple(weight.detach() for weight in self._layers),
                weight_gradients=self._of_layers(gradients),
                updates=None if updates is None else self._of_layers(updates),
            )
            for each in passes
        ]
        if self.parts.one:
            return Readings.read(probes, measurements[0])
        return Readings.read_parts(probes, measurements, self.parts.team.gather)

    def _of_layers(self, tensors: list[Tensor]) -> tuple[Tensor, ...]:
        return tuple(tensors[place] for place in self._places)

    @torch.no_grad()
    def _account(self, loss: Tensor, logits: Tensor, labels: Tensor, used: Tensor) -> None:
        """Update running sums, the first non-finite loss, the order checksum and the step counter, all on the device.

        ``loss`` is that of the whole batch, the others are this process's; the state is equal in every process.
        """
        state, team = self.state, self.parts.team
        wrong, used = team.sum(torch.stack([(logits.argmax(1) != labels).sum(), used])).unbind()
        state.sums += torch.stack([loss * (len(labels) * team.count), wrong])
        first = (state.first_nonfinite == NEVER) & ~torch.isfinite(loss)
        state.first_nonfinite.copy_(torch.where(first, state.step, state.first_nonfinite))
        state.checksum.mul_(CHECKSUM_FACTOR).add_(used)
        state.step += 1


def forward(network: nn.Module, images: Tensor, environment: Environment) -> Tensor:
    """Logits in float32, (N, 10); with precision bf16 the layers compute in bfloat16 with float32 weights."""
    bf16 = environment.precision == "bf16"
    with torch.autocast(environment.torch_device.type, dtype=torch.bfloat16, enabled=bf16):
        logits: Tensor = network(images)
    return logits.float()


@contextmanager
def batch_statistics(network: nn.Module) -> Iterator[None]:
    """Use the statistics of the batch in batch norm; the running ones are neither read nor written."""
    before = [(norm, norm.training, norm.track_running_stats) for norm in norms(network)]
    for norm, _, _ in before:
        norm.training, norm.track_running_stats = True, False
    try:
        yield
    finally:
        for norm, training, tracking in before:
            norm.training, norm.track_running_stats = training, tracking


@contextmanager
def use_statistics(network: nn.Module, statistics: str) -> Iterator[None]:
    """Use ``running`` statistics or those of each ``batch`` in batch norm; neither mode changes a buffer.

    Raises ValueError for another word.
    """
    if statistics not in STATISTICS:
        raise ValueError(f"the statistics are batch or running, not {statistics!r}")
    training = network.training
    network.eval()
    try:
        with batch_statistics(network) if statistics == "batch" else nullcontext():
            yield
    finally:
        network.train(training)
