"""The gradients probe: norms of weight gradients, weights, updates and response gradients, layer by layer."""

import math
from typing import Any

import torch
from torch import Tensor

from degradation.layout import Layout
from degradation.probes.probe import Measurement, Probe, norms

COLUMNS = ("weight_grad_norm", "weight_norm", "update_norm", "response_grad_norm", "response_grad_rms")


def needs(layout: Layout) -> tuple[str, ...]:
    """The responses of every layer that has one."""
    return tuple(layer.response for layer in layout.layers if layer.response is not None)


def measure(seen: Measurement) -> Tensor:
    """(layers, 5), in the order of COLUMNS; NaN where a layer has no response or the step made no update."""
    weight_gradients, weights, momentum = (
        norms(list(tensors)) for tensors in (seen.weight_gradients, seen.weights, seen.momentum)
    )
    missing = torch.full_like(weights, torch.nan)
    updates = missing if seen.update_scale is None else momentum * seen.update_scale
    response_gradients, rms = missing.clone(), missing.clone()
    gradients = [seen.output_gradients[name] for name in needs(seen.layout)]
    found = norms(gradients)
    count = len(gradients)  # the layers without a response come last
    response_gradients[:count] = found
    roots = [math.sqrt(gradient.numel()) for gradient in gradients]
    rms[:count] = torch.stack(torch._foreach_div(list(found.unbind()), roots))
    return torch.stack([weight_gradients, weights, updates, response_gradients, rms], dim=1)


def rows(layout: Layout, numbers: Any) -> list[dict[str, Any]]:
    """One row per weighted layer."""
    return [
        {"layer": layer.number, "name": layer.name, "stage": layer.stage} | dict(zip(COLUMNS, values, strict=True))
        for layer, values in zip(layout.layers, numbers.tolist(), strict=True)
    ]


GRADIENTS = Probe(frame="gradients", gradients=True, needs=needs, measure=measure, rows=rows)
