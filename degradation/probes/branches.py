"""The branches probe: standard deviation of each block's branch beside that of its shortcut."""

from typing import Any

import torch
from torch import Tensor

from degradation.layout import Block, Layout
from degradation.probes.probe import Measurement, Probe, moments


def needs(layout: Layout) -> tuple[str, ...]:
    """Branch and shortcut of every block that has a shortcut; none in a plain network."""
    return tuple(name for block in _blocks(layout) for name in (block.branch, str(block.shortcut)))


def measure(seen: Measurement) -> Tensor:
    """(blocks with a shortcut, 3): std of the branch, std of the shortcut, their ratio (NaN over a shortcut of 0)."""
    names = needs(seen.layout)
    if not names:
        return torch.zeros(0, 3, device=seen.weights[0].device)
    branch, shortcut = moments(seen, names)[:, 1].reshape(-1, 2).unbind(1)
    return torch.stack([branch, shortcut, torch.where(shortcut > 0, branch / shortcut, torch.nan)], dim=1)


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
)
