"""What a probe is: which module outputs it needs, a pure function of them, and the rows its numbers make."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from degradation.layout import Layout


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What one forward and backward leave for the probes; nothing here may be written to.

    ``outputs`` and ``output_gradients`` are keyed by module name, the others by layer in the Layout's order.
    ``update_scale`` times the momentum is the update made at this step; None at a step that makes none.
    """

    layout: Layout
    outputs: Mapping[str, Tensor]
    output_gradients: Mapping[str, Tensor]
    weights: tuple[Tensor, ...]
    weight_gradients: tuple[Tensor, ...]
    momentum: tuple[Tensor, ...]
    update_scale: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One probe and the frame it fills.

    ``needs`` names the modules whose outputs it reads; ``gradients`` says whether it reads the gradients with
    respect to them; ``measure`` returns float32 (entries, numbers) on the device; ``rows`` turns these numbers,
    on the host, into the measured columns of the frame's rows.
    """

    frame: str
    gradients: bool
    needs: Callable[[Layout], tuple[str, ...]]
    measure: Callable[[Measurement], Tensor]
    rows: Callable[[Layout, Any], list[dict[str, Any]]]


def norms(tensors: list[Tensor]) -> Tensor:
    """L2 norm of each tensor, in float32: (len(tensors),). One multi-tensor pass."""
    return torch.stack([norm.float() for norm in torch._foreach_norm(tensors, 2, dtype=torch.float32)])


def standard_deviations(tensors: list[Tensor]) -> Tensor:
    """Population standard deviation of each tensor, pooled over everything, in float32: (len(tensors),)."""
    return torch.stack([torch.std(tensor.float(), correction=0) for tensor in tensors])
