"""The recipe as functions of the step: the learning rate, and the update of SGD with momentum."""

import torch
from torch import Tensor

from degradation.spec import Recipe


def learning_rate(recipe: Recipe, step: int) -> float:
    """Learning rate of the update made at ``step``: the warm-up's, then divided by 10 at each milestone passed."""
    if step < recipe.warmup_steps:
        return recipe.warmup_learning_rate
    passed = sum(step >= milestone for milestone in recipe.milestones)
    return float(recipe.learning_rate / 10**passed)


@torch.no_grad()
def accumulate_momentum(recipe: Recipe, momentum: list[Tensor], weights: list[Tensor], gradients: list[Tensor]) -> None:
    """v <- momentum v + g + weight_decay w, in place; weight decay on every parameter, no Nesterov."""
    torch._foreach_mul_(momentum, recipe.momentum)
    torch._foreach_add_(momentum, gradients)
    torch._foreach_add_(momentum, weights, alpha=recipe.weight_decay)


@torch.no_grad()
def update_weights(rate: Tensor, weights: list[Tensor], momentum: list[Tensor]) -> None:
    """w <- w - rate v, in place, the rate a scalar on the device."""
    torch._foreach_sub_(weights, torch._foreach_mul(momentum, rate))
