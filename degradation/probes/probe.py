"""Probe: the module outputs it needs, a pure function of them, and the columns that its numbers fill."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from degradation.networks.layout import Layout, Normalized
from degradation.probes.magnitudes import chosen, mean_std, widened

NORMALIZED = ("gamma", "beta", "inverse_std")


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Read-only results of one forward and backward for the probes.

    ``outputs``, ``normalized`` and ``output_gradients`` are keyed by module name, the others are in the order of the
    Layout's layers. ``updates`` will be subtracted from the weights; None at a step without an update.
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

    ``needs`` names the modules whose outputs it reads; ``gradients``: whether it also reads the gradients with
    respect to them; ``entries`` gives the columns that identify its entries (one entry per layer or block);
    ``measure`` returns (entries, n) on the device: the values of ``columns``, then values that only ``pool`` needs.
    ``pool`` turns such readings of equal parts of a batch, (parts, entries, n), into that of the batch, (entries, n).
    """

    frame: str
    gradients: bool
    columns: tuple[str, ...]
    needs: Callable[[Layout], tuple[str, ...]]
    entries: Callable[[Layout], list[dict[str, Any]]]
    measure: Callable[[Measurement], Tensor]
    pool: Callable[[Tensor], Tensor]


def moments(measurement: Measurement, names: Sequence[str]) -> Tensor:
    """Mean and population standard deviation of each output, over all its values: (len(names), 2).

    For an output of batch norm with batch statistics in closed form: mean(beta), and sqrt(mean(gamma^2 v / (v + eps)) +
    var(beta)), where v is each channel's variance in the batch. Else from the values.
    """
    closed = _closed_form({name: measurement.normalized[name] for name in names if name in measurement.normalized})
    return torch.stack([closed[name] if name in closed else mean_std(measurement.outputs[name]) for name in names])


def pooled_std(means: Tensor, stds: Tensor) -> Tensor:
    """Standard deviation of all values of equal parts, (parts, ...) each, by the law of total variance."""
    between = (means - means.mean(0)).square().mean(0)
    return (stds.square().mean(0) + between).sqrt()


def _closed_form(outputs: Mapping[str, Normalized]) -> dict[str, Tensor]:
    """Mean and std by name; outputs with equally many channels are computed together, in a few small operations."""
    closed: dict[str, Tensor] = {}
    for channels, eps in dict.fromkeys((len(norm.beta), norm.eps) for norm in outputs.values()):
        group = {name: norm for name, norm in outputs.items() if (len(norm.beta), norm.eps) == (channels, eps)}
        parts = [torch.stack([getattr(norm, part) for norm in group.values()]) for part in NORMALIZED]
        both = chosen(_of_batch_norm(parts, eps), _of_batch_norm([widened(part) for part in parts], eps))
        closed |= dict(zip(group, both.unbind(), strict=True))
    return closed


def _of_batch_norm(parts: Sequence[Tensor], eps: float) -> Tensor:
    """Mean and std of outputs, from the parts of ``NORMALIZED``, (outputs, channels) each: (outputs, 2)."""
    gamma, beta, inverse = parts
    # v / (v + eps) = 1 - eps / (v + eps), which rounding can make negative if v is zero.
    variance = gamma.square() * (1 - eps * inverse.square()).clamp(min=0)
    return torch.stack([beta.mean(1), (variance.mean(1) + beta.var(1, correction=0)).sqrt()], dim=1)
