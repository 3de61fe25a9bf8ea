"""The branches probe: standard deviation of each block's branch beside that of its shortcut."""

from typing import Any

import torch
from torch import Tensor

from degradation.layout import Layout
from degradation.probes.probe import Measurement, Probe, standard_deviations


def needs(layout: Layout) -> tuple[str, ...]:
    """Branch and shortcut of every block that has a shortcut; none in a plain network."""
    return tuple(
        name for block in layout.blocks if block.shortcut is not None for name in (block.branch, block.shortcut)
    )


def measure(seen: Measurement) -> Tensor:
    """(blocks, 2): std of the branch, std of the shortcut."""
    names = needs(seen.layout)
    if not names:
        return torch.zeros(0, 2, device=seen.weights[0].device)
    return standard_deviations([seen.outputs[name] for name in names]).reshape(-1, 2)


def rows(layout: Layout, numbers: Any) -> list[dict[str, Any]]:
    """One row per block with a shortcut."""
    blocks = [block for block in layout.blocks if block.shortcut is not None]
    return [
        {"block": block.number, "name": block.name, "stage": block.stage}
        | {"branch_std": branch, "shortcut_std": shortcut, "ratio": branch / shortcut if shortcut else float("nan")}
        for block, (branch, shortcut) in zip(blocks, numbers.tolist(), strict=True)
    ]


BRANCHES = Probe(frame="branches", gradients=False, needs=needs, measure=measure, rows=rows)
