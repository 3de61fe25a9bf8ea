"""A network and fixed batches -> its mean loss and error, and Hessian-vector products, in a stated batch-norm mode."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from degradation.training.evaluation import loss_and_wrong
from degradation.training.step import use_statistics

Batches = Sequence[tuple[Tensor, Tensor]]
"""Images (N, 3, H, W; normalized) and labels (N); nothing in them is random."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The mean cross-entropy (nats) of a network over the examples of the batches, without weight decay.

    ``statistics`` is the batch-norm mode: running, with which examples are independent, or batch.
    """

    network: nn.Module
    batches: Batches
    statistics: str = "running"

    @property
    def examples(self) -> int:
        return sum(len(labels) for _, labels in self.batches)

    @property
    def weights(self) -> list[nn.Parameter]:
        """Every parameter, in the network's order; gradient and Hessian are with respect to these."""
        return list(self.network.parameters())

    @torch.no_grad()
    def loss_and_error(self) -> tuple[float, float]:
        """Mean loss (nats) and error (a fraction 0..1)."""
        loss, wrong = 0.0, 0
        with use_statistics(self.network, self.statistics):
            for images, labels in self.batches:
                summed, mistakes = loss_and_wrong(self.network(images), labels)
                loss, wrong = loss + float(summed), wrong + int(mistakes)
        return loss / self.examples, wrong / self.examples

    def hessian_times(self, vector: Tensor) -> Tensor:
        """The Hessian of the mean loss times a flat vector over all parameters: (P,) -> (P,), by double backward.

        Exact to rounding (Pearlmutter 1994); a ReLU's second derivative counts as zero.
        """
        total = torch.zeros_like(vector)
        parts = self._like_weights(vector)
        with use_statistics(self.network, self.statistics), torch.enable_grad():
            for images, labels in self.batches:
                total += self._product(images, labels, parts)
        return total / self.examples

    def _product(self, images: Tensor, labels: Tensor, vector: list[Tensor]) -> Tensor:
        """The summed loss's Hessian times the vector, for one batch."""
        loss = F.cross_entropy(self.network(images), labels, reduction="sum")
        gradients = torch.autograd.grad(loss, self.weights, create_graph=True)
        products = torch.autograd.grad(gradients, self.weights, vector, allow_unused=True, materialize_grads=True)
        # reshape goes by index, whatever the memory format: a channels-last gradient lands in the same order.
        return torch.cat([product.reshape(-1) for product in products])

    def _like_weights(self, vector: Tensor) -> list[Tensor]:
        pieces = torch.split(vector, [weight.numel() for weight in self.weights])
        return [piece.view(weight.shape) for piece, weight in zip(pieces, self.weights, strict=True)]
