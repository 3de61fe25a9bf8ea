"""A batch -> equal parts, each normalized by itself, one after the other or in other processes; their sums."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from degradation.networks.layout import norms
from degradation.probes import Taps
from degradation.spec import RunSpec
from degradation.training.process_group import ALONE, ProcessGroup


@dataclass(frozen=True, kw_only=True)
class GhostBatches:
    """The parts of every batch of a run: ``count`` of all processes, of which ``team.count`` take equally many.

    They are the run's ghost batches. If batch norm does not depend on the parts (there is none, or it is
    synchronized) and the run has too few, each process has one.
    """

    count: int
    images: int
    """Of each."""
    team: ProcessGroup = ALONE

    @classmethod
    def of(cls, run: RunSpec, team: ProcessGroup = ALONE) -> "GhostBatches":
        """Of a run that ``runtime.distributed.check_shares`` let pass."""
        ghosts = run.recipe.ghost_batches
        count = team.count if ghosts % team.count else ghosts
        return cls(count=count, images=run.recipe.batch // count, team=team)

    @property
    def rows(self) -> range:
        """Rows of the batch that are this process's."""
        own = self.images * (self.count // self.team.count)
        return range(self.team.rank * own, (self.team.rank + 1) * own)

    @property
    def one(self) -> bool:
        """Whether a batch is not divided at all."""
        return self.count == 1

    def split(self, images: Tensor, labels: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """First row in the batch, images and labels of each of this process's parts."""
        for first in range(0, len(labels), self.images):
            here = slice(first, first + self.images)
            yield self.rows.start + first, images[here], labels[here]


@dataclass(frozen=True, kw_only=True)
class PartResult:
    """Results of the forward and backward of one part, other than loss and gradients."""

    logits: Tensor
    taps: Taps
    output_gradients: dict[str, Tensor]
    """Of the part's share of the batch's mean loss."""


@dataclass(kw_only=True)
class PartSums:
    """Tensors that are added up over the parts of a batch, each to its like."""

    parts: GhostBatches
    total: list[Tensor] = field(default_factory=list)

    def add(self, tensors: list[Tensor]) -> None:
        """What one part has of them."""
        self.total = list(torch._foreach_add(self.total, tensors)) if self.total else tensors

    def of_all(self) -> list[Tensor]:
        """Over the parts of all processes."""
        return self.parts.team.sums(self.total)


class RunningStatistics:
    """Batch norm's running statistics over a step in parts: every part begins with the same, and the mean stays.

    So they count every image alike, whichever process had it; a step counts once. DistributedDataParallel keeps those
    of process 0 instead. Where the batch is not divided, and where every process has the same by itself, torch's own
    are left alone.
    """

    def __init__(self, network: nn.Module, parts: GhostBatches, synchronized: bool) -> None:
        self.parts = parts
        found = [] if parts.one or synchronized else [norm for norm in norms(network) if norm.running_var is not None]
        self._means = [norm.get_buffer(name) for norm in found for name in ("running_mean", "running_var")]
        self._counts = [norm.get_buffer("num_batches_tracked") for norm in found]

    @contextmanager
    def of_a_part(self) -> Iterator[list[Tensor]]:
        """Around the forward and backward of one part: yields a list that holds the statistics it left, afterwards.

        The network's own are as before then; not sooner, since torch keeps them for the backward.
        """
        before, counts = [mean.clone() for mean in self._means], [count.clone() for count in self._counts]
        left: list[Tensor] = []
        yield left
        left += [mean.clone() for mean in self._means]
        if self._means:
            torch._foreach_copy_(self._means, before)
            torch._foreach_copy_(self._counts, counts)

    @torch.no_grad()
    def set(self, sums: list[Tensor]) -> None:
        """Let the network have the mean of what the parts left, given its sum over all of them."""
        if sums:
            torch._foreach_copy_(self._means, list(torch._foreach_div(sums, self.parts.count)))
            torch._foreach_add_(self._counts, 1)


def share_of_loss(logits: Tensor, labels: Tensor, parts: GhostBatches) -> Tensor:
    """The part's share of the mean loss over the batch: their sum over the parts is that mean."""
    loss = F.cross_entropy(logits, labels)
    return loss if parts.one else loss / parts.count
