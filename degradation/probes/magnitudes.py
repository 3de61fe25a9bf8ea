"""Norms, means and deviations of values of any magnitude, none of which overflows or vanishes on the way.

The square of a float32 is infinite above 2e19 and zero below 3e-23, though the value is neither. So a number is made
in float32, and where that is not sound it is made again from the values divided by the largest of them. On a CPU this
is asked first; on a device both are made and one is chosen there, so that nothing waits and a CUDA graph can hold it.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

SOUND = 1e-10
"""Above it a norm in float32 has all its digits: squares that underflow are too small to be seen in the sum."""
CENTRED = 1e-2
"""Std over mean above which the mean of the squares less the square of the mean has at least three digits."""


def norms(tensors: Sequence[Tensor]) -> Tensor:
    """L2 norm of each tensor: (len(tensors),), float64 where the device has it. A multi-tensor pass or two."""
    narrow = all(tensor.dtype != torch.float64 for tensor in tensors)  # torch narrows no double
    found = torch._foreach_norm(list(tensors), 2, dtype=torch.float32 if narrow else None)
    made = widened(torch.stack(found))
    sound = sound_of(made)
    if made.device.type == "cpu":
        for place in (~sound).nonzero().flatten().tolist():
            made[place] = _norm(tensors[place])
        return made
    if made.is_cuda and narrow:
        exact = torch.stack(torch._foreach_norm(list(tensors), 2, dtype=torch.float64))
    else:
        exact = torch.stack([_norm(tensor) for tensor in tensors])
    return torch.where(sound, made, exact)


def mean_std(values: Tensor) -> Tensor:
    """Mean and population standard deviation of all values: (2,), float64 where the device has it.

    From the sum and the sum of squares, two passes that every backend has vectorized, where that is sound.
    """
    if values.dtype == torch.float64:
        return _mean_std(values)
    mean = values.sum(dtype=torch.float32) / values.numel()
    square = torch._foreach_norm([values], 2, dtype=torch.float32)[0].square() / values.numel()
    std = (square - mean.square()).clamp(min=0).sqrt()
    made = widened(torch.stack([mean, std]))
    sound = mean.isfinite() & sound_of(std) & (std > CENTRED * mean.abs())
    if made.device.type == "cpu":
        return made if sound else _mean_std(values)
    return torch.where(sound, made, _mean_std(values))


def peaks(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Numbers of tensors, for ``all_finite``, which are finite where all of their values are."""
    some = [tensor for tensor in tensors if tensor.numel()]
    if some and some[0].is_cuda:
        return list(torch._foreach_norm(some, math.inf))  # many at a time
    return [extreme for tensor in some for extreme in tensor.aminmax()]


def all_finite(numbers: Sequence[Tensor]) -> Tensor:
    """Whether all of these numbers are finite, on the device where most of them can be."""
    if not numbers:
        return torch.ones((), dtype=torch.bool)
    device = max((number.device for number in numbers), key=lambda place: place.type != "cpu")
    return torch.stack([number.to(device) for number in numbers]).isfinite().all()


def sound_of(made: Tensor) -> Tensor:
    """Whether squares neither overflowed nor vanished in numbers that were made of them."""
    return made.isfinite() & (made.abs() > SOUND)


def chosen(made: Tensor, exact: Tensor) -> Tensor:
    """Numbers that float32 made, and where they are not sound the exact ones."""
    return torch.where(sound_of(made), widened(made), exact)


def widened(tensor: Tensor) -> Tensor:
    """The same numbers in the widest type of their device: Apple's has no float64."""
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
    """The values over the largest magnitude among them, and this; over 1 where it is zero or not finite."""
    values = values if values.dtype == torch.float64 else values.float()
    if not values.numel():
        return values, values.new_ones(())
    low, high = values.aminmax()
    peak = torch.maximum(-low, high)
    peak = torch.where(peak.isfinite() & (peak > 0), peak, 1)
    return values / peak, peak
