"""The branches probe: standard deviations of each block's branch and shortcut."""

from typing import Any

import torch
from torch import Tensor

from degradation.networks.layout import Block, Layout
from degradation.probes.probe import Measurement, Probe, moments, pooled_std


def needs(layout: Layout) -> tuple[str, ...]:
    """Branch and shortcut of every block that has a shortcut; none in a plain network."""
    return tuple(name for block in _blocks(layout) for name in (block.branch, str(block.shortcut)))


def measure(measurement: Measurement) -> Tensor:
    """(blocks with a shortcut, 5): std of the branch, std of the shortcut, their ratio; and the means of both."""
    names = needs(measurement.layout)
    if not names:
        return torch.zeros(0, 5, device=measurement.weights[0].device)
    means, stds = moments(measurement, names).reshape(-1, 2, 2).unbind(-1)
    return _columns(stds, means)


def pool(parts: Tensor) -> Tensor:
    """Std of branch and shortcut over the values of all parts, and their ratio."""
    stds, means = parts[..., :2], parts[..., 3:]
    return _columns(pooled_std(means, stds), means.mean(0))


def _columns(stds: Tensor, means: Tensor) -> Tensor:
    """(blocks, 2) each, of branch and shortcut; a ratio over a shortcut of 0 is NaN."""
    branch, shortcut = stds.unbind(1)
    ratio = torch.where(shortcut > 0, branch / shortcut, torch.nan)
    return torch.cat([stds, ratio[:, None], means], dim=1)


def entries(layout: Layout) -> list[dict[str, Any]]:
    """One entry per block with a shortcut."""
    return [{"block": block.number, "name": block.name, "stage": block.stage} for block in _blocks(layout)]


def _blocks(layout: Layout) -> list[Block]:
    return [block for block in layout.blocks if block.shortcut is not None]


BRANCHES = Probe(
    frame="branches",
    gradients=False,
    columns=("branch_std", "shortcut_std", "ratio"),
    needs=needs,
    entries=entries,
    measure=measure,
    pool=pool,
)
