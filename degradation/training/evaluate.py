"""Clean error and loss of a network on a split, with running or with batch statistics."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from degradation.data.sources import Clean
from degradation.environment import Environment
from degradation.training.capture import Capture, Say
from degradation.training.step import forward, statistics_of


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

    batches: Clean
    examples: int | None = None
    watch: Callable[[], None] = lambda: None

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self.batches(self.examples):
            self.watch()
            yield batch


class Evaluator:
    """Evaluates one network, in index order and in batches of the training size, and leaves it exactly as it was."""

    def __init__(self, network: nn.Module, environment: Environment, say: Say) -> None:
        self.network, self.environment = network, environment
        # A forward in either mode changes nothing, so a capture needs nothing put back.
        self._capture = Capture(environment=environment, rehearsal=nullcontext, say=say)
        self._forwards: dict[str, Callable[[Tensor], Tensor]] = {}

    @torch.inference_mode()
    def __call__(self, part: Watched, statistics: str) -> Evaluation:
        """``statistics``: running (evaluation mode) or batch (every batch normalized by itself, buffers untouched)."""
        with statistics_of(self.network, statistics):
            return self._totals(part, statistics)

    def _totals(self, part: Watched, statistics: str) -> Evaluation:
        device = part.batches.mean.device
        loss, errors, count = torch.zeros((), device=device), torch.zeros((), dtype=torch.int64, device=device), 0
        for images, labels in part:
            logits = self._forward(images, statistics, full=len(images) == part.batches.batch)
            loss += F.cross_entropy(logits, labels, reduction="sum")
            errors += (logits.argmax(1) != labels).sum()
            count += len(labels)
        return Evaluation(loss=float(loss) / count, error=int(errors) / count, examples=count)

    def _forward(self, images: Tensor, statistics: str, full: bool) -> Tensor:
        """The network's logits; full batches go through one captured forward for each kind of statistics."""
        if not (full and self.environment.capture):
            return forward(self.network, images, self.environment)
        if statistics not in self._forwards:
            self._forwards[statistics] = self._captured(torch.empty_like(images))
        return self._forwards[statistics](images)

    def _captured(self, place: Tensor) -> Callable[[Tensor], Tensor]:
        replay = self._capture(lambda: forward(self.network, place, self.environment))

        def answer(images: Tensor) -> Tensor:
            place.copy_(images)
            return replay()

        return answer
