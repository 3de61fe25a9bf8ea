"""A trained network -> its training loss and error on a line and on a plane through its weights.

Directions are random and filter-normalized (Li et al. 2018, arXiv:1712.09913, section 4): each filter of a direction
has the norm of the network's filter, and batch norm's gamma and beta and all biases do not change. They are drawn by
tensor name: both networks of a matched pair move along the same numbers, each in the scale of its filters.
"""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor, nn

from degradation.experiments.draws import normal_like
from degradation.experiments.experiment import Experiment, Settings
from degradation.experiments.objective import Objective
from degradation.experiments.trained_run import Subject
from degradation.frames.schemas import INTEGER, REAL, TEXT

RADIUS = 1.0  # in filter norms, as in the paper's figures
SURFACE = "running"  # the paper's mode: the statistics of the trained network at every point

COLUMNS: Mapping[str, str] = {
    "cut": TEXT,  # line: along the first direction; surface: a grid along both
    "x": REAL,  # along the first direction, in filter norms; 0 is the trained network
    "y": REAL,  # along the second
    "split": TEXT,  # train, clean
    "statistics": TEXT,  # batch-norm statistics: running, those of the trained weights everywhere; or batch
    "loss": REAL,  # mean cross-entropy, nats; not finite if it overflows
    "error": REAL,
    "examples": INTEGER,
}

Direction = Mapping[str, Tensor]


def filter_normalized(network: nn.Module, normal: Direction) -> dict[str, Tensor]:
    """The direction with each filter scaled to the norm of the network's; zero for tensors that hold no filter.

    A filter computes one output: of a convolution (inputs, k, k), of the linear layer a row.
    """
    direction = {}
    for name, weight in network.named_parameters():
        if weight.ndim > 1:
            before, after = (tensor.flatten(1).norm(dim=1) for tensor in (normal[name], weight.detach()))
            direction[name] = normal[name] * (after / before).view(-1, *[1] * (weight.ndim - 1))
        else:
            direction[name] = torch.zeros_like(weight)
    return direction


def losses(
    objective: Objective, directions: Sequence[Direction], points: Iterable[tuple[float, float]]
) -> list[tuple[float, float]]:
    """Loss and error at each point (x, y): centre + x first + y second. At the end the network is as before.

    Each point is set from the centre, not from the last one, so that rounding does not add up.
    """
    weights = dict(objective.network.named_parameters())
    centre = {name: weight.detach().clone() for name, weight in weights.items()}
    measured = []
    for point in [*points, None]:
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(centre[name])
                for distance, direction in zip(point or (), directions, strict=False):
                    weight.add_(direction[name], alpha=distance)
        if point is not None:
            measured.append(objective.loss_and_error())
    return measured


def axis(count: int) -> list[float]:
    """-RADIUS to RADIUS in 2 count + 1 points: 0, the trained network, is always among them."""
    return [RADIUS * number / count for number in range(-count, count + 1)]


def parts(_subject: Subject, settings: Settings) -> Sequence[str]:
    """The line with both kinds of statistics, then the surface row by row."""
    rows = [f"surface-{number:02d}" for number in range(len(axis(settings.points)))]
    return ["line-running", "line-batch", *rows]


def weight(settings: Settings, part: str) -> float:
    """The number of points at which the loss is evaluated."""
    return len(axis(2 * settings.points if part.startswith("line") else settings.points))


def measure(subject: Subject, settings: Settings, part: str) -> pd.DataFrame:
    """The rows of one part."""
    cut, which = part.split("-")
    if cut == "line":
        points, statistics = [(x, 0.0) for x in axis(2 * settings.points)], which
    else:
        across = axis(settings.points)
        points, statistics = [(x, across[int(which)]) for x in across], SURFACE
    network = subject.network()
    normals = [normal_like(network, subject, settings, "landscape", number) for number in (1, 2)]
    directions = [filter_normalized(network, normal) for normal in normals]
    batches = list(subject.batches("train", settings.examples))
    objective = Objective(network=network, batches=batches, statistics=statistics)
    data = pd.DataFrame(points, columns=["x", "y"])
    data[["loss", "error"]] = losses(objective, directions, points)
    data = data.assign(cut=cut, split="train", statistics=statistics, examples=objective.examples)
    return data[list(COLUMNS)].astype(COLUMNS)


LANDSCAPE = Experiment(
    name="landscape",
    question="How rough is the training loss around the trained weights?",
    columns=COLUMNS,
    parts=parts,
    measure=measure,
    weight=weight,
)
