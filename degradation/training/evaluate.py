"""Clean error and loss of a network on a split, with running or with batch statistics."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from degradation.data.batches import CleanBatches
from degradation.environment import Environment
from degradation.training.step import batch_statistics, forward


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Mean loss (nats) and error (a fraction) over ``examples`` images."""

    loss: float
    error: float
    examples: int


STATISTICS = ("batch", "running")


@dataclass(frozen=True, kw_only=True)
class Watched:
    """The stated part of a split; ``watch`` is called at every batch and may raise to end the evaluation."""

    batches: CleanBatches
    examples: int | None = None
    watch: Callable[[], None] = lambda: None

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self.batches(self.examples):
            self.watch()
            yield batch


@torch.inference_mode()
def evaluate(network: nn.Module, part: Watched, statistics: str, environment: Environment) -> Evaluation:
    """Evaluate in index order and in batches of the training size; the network is left exactly as it was.

    ``statistics``: running (evaluation mode) or batch (every batch normalized by itself, buffers untouched).
    """
    training = network.training
    context: AbstractContextManager[None] = batch_statistics(network) if statistics == "batch" else nullcontext()
    network.eval()
    try:
        with context:
            return _totals(network, part, environment)
    finally:
        network.train(training)


def _totals(network: nn.Module, part: Watched, environment: Environment) -> Evaluation:
    device = part.batches.mean.device
    loss, errors, count = torch.zeros((), device=device), torch.zeros((), dtype=torch.int64, device=device), 0
    for images, labels in part:
        logits = forward(network, images, environment)
        loss += F.cross_entropy(logits, labels, reduction="sum")
        errors += (logits.argmax(1) != labels).sum()
        count += len(labels)
    return Evaluation(loss=float(loss) / count, error=int(errors) / count, examples=count)
