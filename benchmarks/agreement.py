"""Kinds of step -> how far their weights are apart after 1 and 50 steps, beside eager runs that start an ulp apart."""

from collections.abc import Iterator

import torch

from benchmarks.subjects import Ours
from degradation.training.step import State

STEPS = (1, 50)


def distances(eager: Ours, others: dict[str, Ours]) -> list[dict[str, object]]:
    """Relative L2 distance over all weights from the eager training, and of the running loss, after each of STEPS."""
    rows: list[dict[str, object]] = []
    taken = 0
    for steps in STEPS:
        for ours in (eager, *others.values()):
            ours.steps = steps - taken
            ours()
        taken = steps
        for name, other in others.items():
            rows.append(
                {
                    "against eager": name,
                    "steps": steps,
                    "relative distance of weights": distance(eager.training.state, other.training.state),
                    "mean loss": _loss(other),
                    "mean loss, eager": _loss(eager),
                }
            )
    return rows


def distance(one: State, other: State) -> float:
    """L2 norm of the difference of all weights over the norm of the first."""
    apart = sum((a - b).double().square().sum() for a, b in _pairs(one, other))
    return float((apart / sum(a.double().square().sum() for a, _ in _pairs(one, other))).sqrt())


def _pairs(one: State, other: State) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    return ((a.detach(), b.detach()) for a, b in zip(one.weights, other.weights, strict=True))


def _loss(ours: Ours) -> float:
    state = ours.training.state
    return float(state.sums[0]) / (int(state.step) * ours.training.run.recipe.batch)


@torch.no_grad()
def one_ulp_away(ours: Ours) -> Ours:
    """The same training with every weight moved to the next larger float32."""
    for weight in ours.training.state.weights:
        weight.copy_(torch.nextafter(weight, torch.full_like(weight, torch.inf)))
    return ours
