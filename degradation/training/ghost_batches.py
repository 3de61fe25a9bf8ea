"""A batch -> equal parts, each normalized by itself, one after the other or in other processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from degradation.networks.layout import norms
from degradation.probes import Taps
from degradation.spec import RunSpec
from degradation.training.process_group import ALONE, ProcessGroup


@dataclass(frozen=True, kw_only=True)
class GhostBatches:
    """The parts of every batch of a run: ``count`` in all, shared equally by the ``team.count`` processes.

    They are the run's ghost batches. If batch norm does not depend on the parts (there is none, or it is
    synchronized) and the run has too few, each process has one.
    """

    count: int
    images: int
    """Images in each part."""
    team: ProcessGroup = ALONE

    @classmethod
    def of(cls, run: RunSpec, team: ProcessGroup = ALONE) -> "GhostBatches":
        """The parts of a run that ``runtime.distributed.check_shares`` accepted."""
        ghosts = run.recipe.ghost_batches
        count = team.count if ghosts % team.count else ghosts
        return cls(count=count, images=run.recipe.batch // count, team=team)

    @property
    def rows(self) -> range:
        """This process's rows of the batch."""
        own = self.images * (self.count // self.team.count)
        return range(self.team.rank * own, (self.team.rank + 1) * own)

    @property
    def one(self) -> bool:
        """Whether a batch is not divided."""
        return self.count == 1

    def split(self, images: Tensor, labels: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """First row in the batch, images and labels of each of this process's parts."""
        for first in range(0, len(labels), self.images):
            part = slice(first, first + self.images)
            yield self.rows.start + first, images[part], labels[part]


@dataclass(frozen=True, kw_only=True)
class PartResult:
    """Results of the forward and backward of one part, without loss and weight gradients."""

    logits: Tensor
    taps: Taps
    output_gradients: dict[str, Tensor]
    """Gradients of the part's share of the batch's mean loss."""


class RunningStatistics:
    """Batch norm's running statistics over a step in parts: every part starts from the same, and their mean is kept.

    So every image counts equally, whichever process had it; a step counts once. DistributedDataParallel keeps those
    of process 0 instead. If the batch is not divided, or batch norm is synchronized, torch's own are left alone.
    """

    def __init__(self, network: nn.Module, parts: GhostBatches, synchronized: bool) -> None:
        self.parts = parts
        active = [] if parts.one or synchronized else [norm for norm in norms(network) if norm.running_var is not None]
        self._means = [norm.get_buffer(name) for norm in active for name in ("running_mean", "running_var")]
        self._counts = [norm.get_buffer("num_batches_tracked") for norm in active]

    @contextmanager
    def of_a_part(self) -> Iterator[list[Tensor]]:
        """Surround the forward and backward of one part; yield a list that gets the statistics after that part.

        The network's own are reset only at the end, since torch keeps them for the backward.
        """
        before, counts = [mean.clone() for mean in self._means], [count.clone() for count in self._counts]
        after: list[Tensor] = []
        yield after
        after += [mean.clone() for mean in self._means]
        if self._means:
            torch._foreach_copy_(self._means, before)
            torch._foreach_copy_(self._counts, counts)

    @torch.no_grad()
    def set(self, sums: list[Tensor]) -> None:
        """Set the network's statistics to the mean over all parts, given the sum."""
        if sums:
            torch._foreach_copy_(self._means, list(torch._foreach_div(sums, self.parts.count)))
            torch._foreach_add_(self._counts, 1)


def share_of_loss(logits: Tensor, labels: Tensor, parts: GhostBatches) -> Tensor:
    """The part's share of the mean loss over the batch: their sum over the parts is that mean."""
    loss = F.cross_entropy(logits, labels)
    return loss if parts.one else loss / parts.count
