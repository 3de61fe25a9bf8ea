"""The responses probe: mean, standard deviation and zero fraction of every layer's response (Figure 7)."""

from typing import Any

import torch
from torch import Tensor

from degradation.layout import Layout
from degradation.probes.gradients import needs
from degradation.probes.probe import Measurement, Probe

COLUMNS = ("mean", "std", "zero_fraction")


def measure(seen: Measurement) -> Tensor:
    """(layers with a response, 3), in the order of COLUMNS."""
    return torch.stack([_summary(seen.outputs[name]) for name in needs(seen.layout)])


def _summary(response: Tensor) -> Tensor:
    std, mean = torch.std_mean(response.float(), correction=0)
    return torch.stack([mean, std, (response <= 0).float().mean()])


def rows(layout: Layout, numbers: Any) -> list[dict[str, Any]]:
    """One row per layer that has a response."""
    return [
        {"layer": layer.number, "name": layer.name, "stage": layer.stage} | dict(zip(COLUMNS, values, strict=True))
        for layer, values in zip(layout.responding, numbers.tolist(), strict=True)
    ]


RESPONSES = Probe(frame="responses", gradients=False, needs=needs, measure=measure, rows=rows)
