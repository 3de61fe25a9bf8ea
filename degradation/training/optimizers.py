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
        """The updates to subtract; weight decay acts on every parameter."""
        momentum = self.buffers["momentum"]
        torch._foreach_mul_(momentum, self.recipe.momentum)
        torch._foreach_add_(momentum, gradients)
        torch._foreach_add_(momentum, weights, alpha=self.recipe.weight_decay)
        return list(torch._foreach_mul(momentum, rate))


class Adam:
    """Adam (Kingma & Ba 2015, Algorithm 1), with weight decay added to the gradient, as in ``torch.optim.Adam``."""

    def __init__(self, recipe: Recipe, weights: Sequence[Tensor]) -> None:
        self.recipe = recipe
        kinds = ("momentum", "second_moment")
        self.buffers = {kind: [torch.zeros_like(weight, requires_grad=False) for weight in weights] for kind in kinds}

    @torch.no_grad()
    def updates(self, weights: list[Tensor], gradients: list[Tensor], rate: Tensor, step: Tensor) -> list[Tensor]:
        """The updates to subtract; the bias corrections are computed on the device."""
        first, second = self.buffers["momentum"], self.buffers["second_moment"]
        decayed = list(torch._foreach_add(gradients, weights, alpha=self.recipe.weight_decay))
        _average(first, decayed, self.recipe.momentum)
        _average(second, list(torch._foreach_mul(decayed, decayed)), self.recipe.beta2)
        taken = (step + 1).float()
        spread = list(torch._foreach_sqrt(torch._foreach_div(second, 1 - self.recipe.beta2**taken)))
        torch._foreach_add_(spread, EPSILON)
        scaled = list(torch._foreach_mul(first, rate / (1 - self.recipe.momentum**taken)))
        return list(torch._foreach_div(scaled, spread))


def _average(means: list[Tensor], values: list[Tensor], keep: float) -> None:
    """mean <- keep mean + (1 - keep) value, in place."""
    torch._foreach_mul_(means, keep)
    torch._foreach_add_(means, values, alpha=1 - keep)


EPSILON = 1e-8  # of Adam, as in its Algorithm 1
OPTIMIZERS: dict[str, type[Sgd] | type[Adam]] = {"sgd": Sgd, "adam": Adam}
