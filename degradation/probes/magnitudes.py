"""Norms, means and standard deviations of values of any magnitude, without overflow or underflow.

The square of a float32 is infinite above 2e19 and zero below 3e-23, though the value is neither. So a number is
computed in float32, and if that is not sound, again from the values divided by the largest of them. A CPU checks first;
on a device both are computed and one is chosen there, so that nothing waits and a CUDA graph can capture it.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

SOUND = 1e-10
"""Above it a norm in float32 has all its digits: squares that underflow are too small to change the sum."""
CENTRED = 1e-2
"""Std over mean above which the mean of the squares minus the square of the mean has at least three digits."""


def norms(tensors: Sequence[Tensor]) -> Tensor:
    """L2 norm of each tensor: (len(tensors),), float64 if the device has it. One or two multi-tensor passes."""
    narrow = all(tensor.dtype != torch.float64 for tensor in tensors)  # torch narrows no double
    fast = widened(torch.stack(torch._foreach_norm(list(tensors), 2, dtype=torch.float32 if narrow else None)))
    sound = sound_of(fast)
    if fast.device.type == "cpu":
        for place in (~sound).nonzero().flatten().tolist():
            fast[place] = _norm(tensors[place])
        return fast
    if fast.is_cuda and narrow:
        exact = torch.stack(torch._foreach_norm(list(tensors), 2, dtype=torch.float64))
    else:
        exact = torch.stack([_norm(tensor) for tensor in tensors])
    return torch.where(sound, fast, exact)


def mean_std(values: Tensor) -> Tensor:
    """Mean and population standard deviation of all values: (2,), float64 if the device has it.

    If that is sound, from the sum and the sum of squares: two passes that every backend has vectorized.
    """
    if values.dtype == torch.float64:
        return _mean_std(values)
    mean = values.sum(dtype=torch.float32) / values.numel()
    square = torch._foreach_norm([values], 2, dtype=torch.float32)[0].square() / values.numel()
    std = (square - mean.square()).clamp(min=0).sqrt()
    fast = widened(torch.stack([mean, std]))
    sound = mean.isfinite() & sound_of(std) & (std > CENTRED * mean.abs())
    if fast.device.type == "cpu":
        return fast if sound else _mean_std(values)
    return torch.where(sound, fast, _mean_std(values))


def peaks(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Numbers for ``all_finite``: they are finite if all values of the tensors are."""
    filled = [tensor for tensor in tensors if tensor.numel()]
    if filled and filled[0].is_cuda:
        return list(torch._foreach_norm(filled, math.inf))  # many at a time
    return [extreme for tensor in filled for extreme in tensor.aminmax()]


def all_finite(numbers: Sequence[Tensor]) -> Tensor:
    """Whether all of these numbers are finite: a scalar on their device, on the CPU only if all are there."""
    if not numbers:
        return torch.ones((), dtype=torch.bool)
    device = max((number.device for number in numbers), key=lambda place: place.type != "cpu")
    return torch.stack([number.to(device) for number in numbers]).isfinite().all()


def sound_of(roots: Tensor) -> Tensor:
    """Whether these roots of sums of squares are sound: no square overflowed or underflowed."""
    return roots.isfinite() & (roots.abs() > SOUND)


def chosen(fast: Tensor, exact: Tensor) -> Tensor:
    """The numbers computed in float32, and the exact ones in place of those that are not sound."""
    return torch.where(sound_of(fast), widened(fast), exact)


def widened(tensor: Tensor) -> Tensor:
    """The same numbers in float64, or in float32 on Apple's devices, which have no float64."""
    return tensor.float() if tensor.device.type == "mps" else tensor.double()


def _norm(values: Tensor) -> Tensor:
    scaled, peak = _scaled(values)
    return widened(torch.linalg.vector_norm(scaled)) * widened(peak)


def _mean_std(values: Tensor) -> Tensor:
    scaled, peak = _scaled(values)
    mean = scaled.mean()
    std = torch.linalg.vector_norm(scaled - mean) / math.sqrt(values.numel())
    return widened(torch.stack([mean, std])) * widened(peak)


def _scaled(values: Tensor) -> tuple[Tensor, Tensor]:
    """The values divided by their largest magnitude, and that magnitude; 1 if it is zero or not finite."""
    values = values if values.dtype == torch.float64 else values.float()
    if not values.numel():
        return values, values.new_ones(())
    low, high = values.aminmax()
    peak = torch.maximum(-low, high)
    peak = torch.where(peak.isfinite() & (peak > 0), peak, 1)
    return values / peak, peak
