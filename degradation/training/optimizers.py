"""Gradients -> the updates to subtract from the weights, all tensors at once, with buffers that stay in place."""

from collections.abc import Sequence

import torch
from torch import Tensor

from degradation.spec import Recipe


class Sgd:
    """SGD with momentum (section 4.2): v <- momentum v + g + weight_decay w; the update is rate v. No Nesterov."""

    def __init__(self, recipe: Recipe, weights: Sequence[Tensor]) -> None:
        self.recipe = recipe
        self.buffers = {"momentum": [torch.zeros_like(weight, requires_grad=False) for weight in weights]}

    @torch.no_grad()
    def updates(self, weights: list[Tensor], gradients: list[Tensor], rate: Tensor, _step: Tensor) -> list[Tensor]:
        """What to subtract from each weight; weight decay acts on every parameter."""
        momentum = self.buffers["momentum"]
        torch._foreach_mul_(momentum, self.recipe.momentum)
        torch._foreach_add_(momentum, gradients)
        torch._foreach_add_(momentum, weights, alpha=self.recipe.weight_decay)
        return list(torch._foreach_mul(momentum, rate))


OPTIMIZERS = {"sgd": Sgd}
