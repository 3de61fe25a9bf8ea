"""The responses probe: mean, standard deviation and zero fraction of every layer's response (Figure 7)."""

from typing import Any

import torch
from torch import Tensor

from degradation.networks.layout import Layout
from degradation.probes.gradients import needs
from degradation.probes.probe import Measurement, Probe, moments, pooled_std


def measure(measurement: Measurement) -> Tensor:
    """(layers with a response, 3): mean, std, zero fraction."""
    names = needs(measurement.layout)
    zeros = _zero_fractions([measurement.outputs[name] for name in names])
    return torch.cat([moments(measurement, names), zeros[:, None]], dim=1)


def _zero_fractions(responses: list[Tensor]) -> Tensor:
    """Share of values <= 0 of each. Comparisons are stored in its own type: booleans take three times longer to sum."""
    scratch: dict[torch.Size, Tensor] = {}
    shares = []
    for response in responses:
        if response.shape not in scratch:
            scratch[response.shape] = torch.empty_like(response)
        at_most_zero = torch.le(response, 0, out=scratch[response.shape])
        shares.append(at_most_zero.sum(dtype=torch.float32) / response.numel())
    return torch.stack(shares)


def pool(parts: Tensor) -> Tensor:
    """Mean, std and zero fraction over the values of all parts."""
    mean, std, zeros = parts.unbind(-1)
    return torch.stack([mean.mean(0), pooled_std(mean, std), zeros.mean(0)], dim=1)


def entries(layout: Layout) -> list[dict[str, Any]]:
    """One entry per layer that has a response."""
    return [{"layer": layer.number, "name": layer.name, "stage": layer.stage} for layer in layout.responding]


RESPONSES = Probe(
    frame="responses",
    gradients=False,
    columns=("mean", "std", "zero_fraction"),
    needs=needs,
    entries=entries,
    measure=measure,
    pool=pool,
)
