"""What a probe is: which module outputs it needs, a pure function of them, and the columns that its numbers fill."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from degradation.layout import Layout, Normalized


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What one forward and backward leave for the probes; nothing here may be written to.

    ``outputs``, ``normalized`` and ``output_gradients`` are keyed by module name, the others by layer in the Layout's
    order. ``updates`` are what is about to be subtracted from the weights; None at a step that makes no update.
    """

    layout: Layout
    outputs: Mapping[str, Tensor]
    normalized: Mapping[str, Normalized]
    output_gradients: Mapping[str, Tensor]
    weights: tuple[Tensor, ...]
    weight_gradients: tuple[Tensor, ...]
    updates: tuple[Tensor, ...] | None


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One probe and the frame it fills.

    ``needs`` names the modules whose outputs it reads; ``gradients`` says whether it reads the gradients with
    respect to them; ``entries`` gives the columns that tell its entries apart (one entry a layer or block);
    ``measure`` returns float32 (entries, n) on the device, the values of ``columns`` and behind them what only
    ``pool`` needs. ``pool`` turns such readings of equal parts of a batch, (parts, entries, n), into that of the
    batch, (entries, n).
    """

    frame: str
    gradients: bool
    columns: tuple[str, ...]
    needs: Callable[[Layout], tuple[str, ...]]
    entries: Callable[[Layout], list[dict[str, Any]]]
    measure: Callable[[Measurement], Tensor]
    pool: Callable[[Tensor], Tensor]


def norms(tensors: Sequence[Tensor]) -> Tensor:
    """L2 norm of each tensor, in float32: (len(tensors),). One multi-tensor pass."""
    # Torch narrows no double: a network in double precision, which may be recorded, has its norms made in that.
    wide = any(tensor.dtype == torch.float64 for tensor in tensors)
    found = torch._foreach_norm(list(tensors), 2, dtype=None if wide else torch.float32)
    return torch.stack([norm.to(torch.float32) for norm in found])


def moments(seen: Measurement, names: Sequence[str]) -> Tensor:
    """Mean and population standard deviation of each output, over all its values, in float32: (len(names), 2).

    In closed form where batch norm with batch statistics made it: mean(beta), and sqrt(mean(gamma^2 v / (v + eps)) +
    var(beta)), v being each channel's variance in the batch. Else in two passes over the values.
    """
    closed = _closed_form({name: seen.normalized[name] for name in names if name in seen.normalized})
    return torch.stack([closed[name] if name in closed else _measured(seen.outputs[name]) for name in names])


def pooled_std(means: Tensor, stds: Tensor) -> Tensor:
    """Of equal parts, (parts, ...) each, the standard deviation of all their values: the law of total variance."""
    between = (means - means.mean(0)).square().mean(0)
    return (stds.square().mean(0) + between).sqrt()


def _closed_form(known: Mapping[str, Normalized]) -> dict[str, Tensor]:
    """Mean and std by name; outputs of equally many channels are computed together, in a few small operations."""
    found: dict[str, Tensor] = {}
    for kind in dict.fromkeys((len(norm.beta), norm.eps) for norm in known.values()):
        group = {name: norm for name, norm in known.items() if (len(norm.beta), norm.eps) == kind}
        gamma, beta, inverse = (
            torch.stack([getattr(norm, part) for norm in group.values()]) for part in ("gamma", "beta", "inverse_std")
        )
        variance = gamma.square() * (1 - kind[1] * inverse.square())  # v / (v + eps) = 1 - eps / (v + eps)
        both = torch.stack([beta.mean(1), (variance.mean(1) + beta.var(1, correction=0)).sqrt()], dim=1)
        found |= dict(zip(group, both.unbind(), strict=True))
    return found


def _measured(output: Tensor) -> Tensor:
    """Mean and std from the sum and the sum of squares: two passes that every backend has vectorized."""
    mean = output.sum(dtype=torch.float32) / output.numel()
    square = norms([output])[0].square() / output.numel()
    return torch.stack([mean, (square - mean.square()).clamp(min=0).sqrt()])
