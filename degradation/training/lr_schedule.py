"""The learning rate of a recipe as a function of the step, on the host and on the device."""

import torch
from torch import Tensor

from degradation.spec import Recipe


def learning_rate(recipe: Recipe, step: int) -> float:
    """Learning rate of the update at ``step``: during the warm-up its own, then divided by 10 at each milestone."""
    if step < recipe.warmup_steps:
        return recipe.warmup_learning_rate
    passed = sum(step >= milestone for milestone in recipe.milestones)
    return float(recipe.learning_rate / 10**passed)


class LearningRate:
    """``learning_rate`` as a table on the device, indexed by the step counter there, without the host."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        changes = sorted({recipe.warmup_steps, *recipe.milestones})
        rates = [learning_rate(recipe, step) for step in (0, *changes)]
        self._changes = torch.tensor(changes, dtype=torch.int64, device=device)
        self._rates = torch.tensor(rates, dtype=torch.float32, device=device)

    def __call__(self, step: Tensor) -> Tensor:
        """The rate at ``step`` (int64 scalar on the device): a float32 scalar."""
        return torch.take(self._rates, torch.bucketize(step, self._changes, right=True))
