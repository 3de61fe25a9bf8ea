"""A tensor of the user's loop -> whether it can be measured, its gradient's arrival, and a few numbers."""

from collections.abc import Callable, Mapping, ValuesView
from typing import Any

import torch
from torch import Tensor

from degradation.probes.magnitudes import all_finite, norms, peaks, widened

SAMPLE = 2**14  # sample of a gradient in which zeros are counted


def plain(tensor: Tensor) -> bool:
    """Whether it holds the numbers of one pass: not while a graph is traced, under ``torch.func`` or vmap, on meta."""
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    batched = torch._C._functorch.is_legacy_batchedtensor(tensor)
    return not (wrapped or batched or tensor.is_meta or torch._C._get_tracing_state() is not None)


def first_tensor(returned: Any) -> Tensor | None:
    """The first tensor of floats in what a module returned: of an attention, of an LSTM, of a dict of outputs."""
    if isinstance(returned, Tensor):
        return returned if returned.is_floating_point() else None
    parts = returned.values() if isinstance(returned, Mapping) else returned
    within = parts if isinstance(parts, list | tuple | ValuesView) else ()
    return next((found for part in within if (found := first_tensor(part)) is not None), None)


def when_answered(output: Tensor, call: Callable[[Tensor], None]) -> None:
    """Call with the gradient of an output as it left its module, even if it is overwritten in place afterwards.

    If the output is a view, as that of a linear layer on three dimensions, an in-place operation gives it another
    node of the graph, and its hook would be lost with the old node. The node of its base tensor stays.
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


def numeric(tensor: Tensor) -> bool:
    """Whether its values are plain numbers, not the codes of a quantized layer, whose scale is elsewhere."""
    return tensor.is_floating_point() or tensor.is_complex()


@torch.no_grad()
def norm_of(tensor: Tensor) -> Tensor:
    dense = tensor.detach().coalesce().values() if tensor.is_sparse else tensor.detach()
    return norms([real(dense)])[0]


def real(tensor: Tensor) -> Tensor:
    """The same numbers in a type for calculations: pairs for complex ones, float32 for types of one byte."""
    if tensor.is_complex():
        return torch.view_as_real(tensor)
    return tensor.float() if tensor.itemsize < 2 else tensor


@torch.no_grad()
def size_of(gradient: Tensor) -> Tensor:
    """L2 norm, and share of values that are not zero: (2,). For many values the share is that of a sample.

    The stride through the values is odd, so that it reaches all channels: a large number of channels is even.
    """
    flat = gradient.reshape(-1) if gradient.is_contiguous() or gradient.numel() <= SAMPLE else gradient[0].reshape(-1)
    sample = flat[:: max(1, flat.numel() // SAMPLE) | 1]
    return torch.stack([norm_of(gradient), widened(sample.count_nonzero() / sample.numel())])


@torch.no_grad()
def finite_of(inputs: Any) -> Tensor:
    """Whether the first input is finite; True for an input that is not of floats."""
    first = inputs[0] if inputs else None
    if not isinstance(first, Tensor) or not first.is_floating_point():
        return all_finite([])
    return all_finite(peaks([real(first.detach())]))


def version_of(tensor: Tensor) -> int:
    """Its version counter, if it has one."""
    return 0 if tensor.is_inference() else tensor._version
