"""Clean error and loss of a network on a split, with running or with batch statistics."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from degradation.data.loaders import Clean
from degradation.runtime.environment import Environment
from degradation.training.cuda_graph import Capture, Log
from degradation.training.process_group import ALONE, ProcessGroup
from degradation.training.step import forward, use_statistics
from degradation.training.sync_batch_norm import local_batch_statistics


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Mean loss (nats) and error (a fraction) over ``examples`` images."""

    loss: float
    error: float
    examples: int


@dataclass(frozen=True, kw_only=True)
class EvalSplit:
    """The first ``examples`` of a split, or all; ``watch`` is called at every batch and may raise to end it.

    Processes that evaluate together call it equally often, even if they have different numbers of batches.
    """

    batches: Clean
    examples: int | None = None
    watch: Callable[[], None] = lambda: None

    @property
    def number(self) -> int:
        """Number of batches."""
        return self.batches.count(self.examples)

    def share(self, team: ProcessGroup) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of this process, every ``team.count``-th."""
        own = iter(self.batches(self.examples, slice(team.rank, None, team.count)))
        for _ in range(team.turns(self.number)):
            self.watch()
            yield from islice(own, 1)


def loss_and_wrong(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy (nats) and number of wrong answers of a batch: two scalars on its device."""
    return F.cross_entropy(logits, labels, reduction="sum"), (logits.argmax(1) != labels).sum()


class Evaluator:
    """Evaluates one network in index order, in the given batches, and leaves it unchanged.

    Several processes take batches in turn; their results are added in the order of the batches, as in one process.
    """

    def __init__(self, network: nn.Module, environment: Environment, say: Log, team: ProcessGroup = ALONE) -> None:
        self.network, self.environment, self.team = network, environment, team
        # A forward in either mode changes nothing, so there is nothing to revert after a capture.
        self._capture = Capture(environment=environment, rehearsal=nullcontext, say=say)
        self._forwards: dict[str, Callable[[Tensor], Tensor]] = {}

    @torch.inference_mode()
    def __call__(self, part: EvalSplit, statistics: str) -> Evaluation:
        """Evaluate with ``running`` statistics or those of each ``batch``; buffers stay unchanged."""
        batches, sums = part.batches, torch.zeros(3, device=part.batches.mean.device)
        with use_statistics(self.network, statistics), local_batch_statistics(self.network):
            own = (self._sums(images, labels, statistics, batches.batch) for images, labels in part.share(self.team))
            for of_batch in self.team.in_turn(own, part.number, nothing=sums.clone()):
                sums += of_batch
        loss, errors, examples = sums.tolist()
        return Evaluation(loss=loss / examples, error=errors / examples, examples=int(examples))

    def _sums(self, images: Tensor, labels: Tensor, statistics: str, full: int) -> Tensor:
        """Loss, wrong answers and examples of one batch; counts are exact in float32 to 16 million."""
        logits = self._forward(images, statistics, full=len(images) == full)
        loss, wrong = loss_and_wrong(logits, labels)
        return torch.stack([loss, wrong, torch.full_like(wrong, len(labels))])

    def _forward(self, images: Tensor, statistics: str, full: bool) -> Tensor:
        """The network's logits; full batches go through one captured forward for each kind of statistics."""
        if not (full and self.environment.capture):
            return forward(self.network, images, self.environment)
        if statistics not in self._forwards:
            self._forwards[statistics] = self._captured(torch.empty_like(images))
        return self._forwards[statistics](images)

    def _captured(self, buffer: Tensor) -> Callable[[Tensor], Tensor]:
        replay = self._capture(lambda: forward(self.network, buffer, self.environment))

        def copy_and_replay(images: Tensor) -> Tensor:
            buffer.copy_(images)
            return replay()

        return copy_and_replay
