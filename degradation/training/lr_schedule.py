"""The recipe as functions of the step: the learning rate, on the host and on the device."""

import torch
from torch import Tensor

from degradation.spec import Recipe


def learning_rate(recipe: Recipe, step: int) -> float:
    """Learning rate of the update made at ``step``: the warm-up's, then divided by 10 at each milestone passed."""
    if step < recipe.warmup_steps:
        return recipe.warmup_learning_rate
    passed = sum(step >= milestone for milestone in recipe.milestones)
    return float(recipe.learning_rate / 10**passed)


class LearningRate:
    """``learning_rate`` as a table on the device, read by the step counter there: the host has no part in it."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        changes = sorted({recipe.warmup_steps, *recipe.milestones})
        rates = [learning_rate(recipe, step) for step in (0, *changes)]
        self._changes = torch.tensor(changes, dtype=torch.int64, device=device)
        self._rates = torch.tensor(rates, dtype=torch.float32, device=device)

    def __call__(self, step: Tensor) -> Tensor:
        """The rate at ``step`` (int64 scalar on the device): a float32 scalar."""
        return torch.take(self._rates, torch.bucketize(step, self._changes, right=True))
