"""The gradients probe: norms of weight gradients, weights, updates and response gradients, layer by layer."""

import math
from typing import Any

import torch
from torch import Tensor

from degradation.networks.layout import Layout
from degradation.probes.magnitudes import norms
from degradation.probes.probe import Measurement, Probe


def needs(layout: Layout) -> tuple[str, ...]:
    """The responses of every layer that has one."""
    return tuple(layer.response for layer in layout.layers if layer.response is not None)


def measure(measurement: Measurement) -> Tensor:
    """(layers, 5), in the order of the columns; NaN if a layer has no response or the step makes no update."""
    weight_gradients, weights = norms(measurement.weight_gradients).float(), norms(measurement.weights).float()
    missing = torch.full_like(weights, torch.nan)
    updates = missing if measurement.updates is None else norms(measurement.updates).float()
    response_gradients, rms = missing.clone(), missing.clone()
    gradients = [measurement.output_gradients[name] for name in needs(measurement.layout)]
    count = len(gradients)  # the layers without a response come last
    response_gradients[:count] = norms(gradients).float()
    roots = [math.sqrt(gradient.numel()) for gradient in gradients]
    rms[:count] = torch.stack(torch._foreach_div(list(response_gradients[:count].unbind()), roots))
    return torch.stack([weight_gradients, weights, updates, response_gradients, rms], dim=1)


def pool(parts: Tensor) -> Tensor:
    """Pool the readings: weights, their gradients and updates are equal in all parts, responses differ by part."""
    norms, rms = parts[..., 3], parts[..., 4]
    responses = torch.stack([norms.square().sum(0).sqrt(), rms.square().mean(0).sqrt()], dim=1)
    return torch.cat([parts[0, :, :3], responses], dim=1)


def entries(layout: Layout) -> list[dict[str, Any]]:
    """One entry per weighted layer."""
    return [{"layer": layer.number, "name": layer.name, "stage": layer.stage} for layer in layout.layers]


GRADIENTS = Probe(
    frame="gradients",
    gradients=True,
    columns=("weight_grad_norm", "weight_norm", "update_norm", "response_grad_norm", "response_grad_rms"),
    needs=needs,
    entries=entries,
    measure=measure,
    pool=pool,
)
