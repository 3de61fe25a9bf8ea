"""A tensor as somebody's loop leaves it -> whether it can be measured, when its gradient comes, and a few numbers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from degradation.probes.probe import norms

SAMPLE = 2**14  # values of a gradient whose zeros are counted


def plain(tensor: Tensor) -> bool:
    """Whether it holds the numbers of one pass: not while a graph is traced, under ``torch.func`` or vmap, on meta."""
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    many = torch._C._functorch.is_legacy_batchedtensor(tensor)
    return not (wrapped or many or tensor.is_meta or torch._C._get_tracing_state() is not None)


def when_answered(output: Tensor, call: Callable[[Tensor], None]) -> None:
    """Call with the gradient of an output as it left its module, whatever is written over it afterwards.

    Where the output is a view, as that of a linear layer on three dimensions, an in-place operation gives it another
    node of the graph, and a hook on it would be lost with the old one. That of the whole tensor below it stays.
    """
    below = output._base if output._is_view() else None
    node = below.grad_fn if below is not None and below.numel() == output.numel() else None
    if below is None or node is None:
        output.register_hook(call)  # type: ignore[no-untyped-call]
        return
    place = below.output_nr

    def first(gradients: tuple[Tensor | None, ...]) -> None:
        if (gradient := gradients[place]) is not None:
            call(gradient)

    node.register_prehook(first)


@torch.no_grad()
def norm_of(tensor: Tensor) -> Tensor:
    dense = tensor.detach().coalesce().values() if tensor.is_sparse else tensor.detach()
    return norms([real(dense)])[0]


def real(tensor: Tensor) -> Tensor:
    """The same numbers in pairs where they are complex."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


@torch.no_grad()
def size_of(gradient: Tensor) -> Tensor:
    """L2 norm, and share of values that are not zero: (2,). The share is that of a sample where there are many.

    The step through the values is odd, so that it meets all channels, whose number is even where there are many.
    """
    flat = gradient.reshape(-1) if gradient.is_contiguous() or gradient.numel() <= SAMPLE else gradient[0].reshape(-1)
    sample = flat[:: max(1, flat.numel() // SAMPLE) | 1]
    return torch.stack([norms([gradient])[0], sample.count_nonzero() / sample.numel()])


@torch.no_grad()
def sum_of(inputs: Any) -> Tensor:
    """The sum of the first input, which is finite where all of it is; zero where it is not of floats."""
    first = inputs[0] if inputs else None
    if not isinstance(first, Tensor) or not first.is_floating_point():
        return torch.zeros(())
    return first.detach().sum(dtype=torch.float32)
