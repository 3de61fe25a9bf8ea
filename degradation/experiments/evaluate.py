"""A modified network -> its clean test error, with the batch-norm statistics it has and estimated again."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from degradation.experiments.experiment import Settings
from degradation.experiments.objective import Objective
from degradation.experiments.trained_run import Subject
from degradation.frames.schemas import INTEGER, REAL, TEXT
from degradation.networks.cifar import CifarNetwork
from degradation.networks.layout import norms
from degradation.training.step import forward

SPLIT = "test"
RUNNING, REESTIMATED = "running", "re-estimated"

COLUMNS = {
    "split": TEXT,
    "statistics": TEXT,  # running: as trained; re-estimated: after the change, over augmented training images
    "loss": REAL,  # mean cross-entropy, nats
    "error": REAL,  # a fraction
    "examples": INTEGER,  # clean images evaluated, the first of the split; statistics from at most as many
    "settings_seed": INTEGER,
}


def error_rows(
    subject: Subject, settings: Settings, modify: Callable[[CifarNetwork], None] = lambda _: None
) -> Iterator[dict[str, Any]]:
    """The columns of ``COLUMNS`` for a fresh network after ``modify``, once for each kind of statistics.

    A network without batch norm has one row, of the statistics ``running``.
    """
    network = subject.network()
    modify(network)
    yield _row(subject, settings, network, RUNNING)
    if subject.run.norm == "batch":
        reestimate(subject, settings.examples, network)
        yield _row(subject, settings, network, REESTIMATED)


@torch.inference_mode()
def reestimate(subject: Subject, examples: int, network: nn.Module) -> None:
    """Replace the running statistics, in place, by the mean of those of augmented training batches, equally weighted.

    During this each batch is normalized by its own statistics, as in training. Batches of less than the full size are
    left out unless there is no other: their variance would have the same weight. Does nothing without batch norm.
    """
    size = subject.run.recipe.batch
    in_full_batches = examples // size * size or examples
    momenta = [(norm, norm.momentum) for norm in norms(network)]
    if not momenta:
        return
    for norm, _ in momenta:
        norm.reset_running_stats()
        norm.momentum = None  # torch's cumulative average
        norm.train()
    for images, _ in subject.batches("train", in_full_batches, augmented=True):
        forward(network, images, subject.environment)
    for norm, momentum in momenta:
        norm.momentum = momentum
        norm.eval()


def _row(subject: Subject, settings: Settings, network: nn.Module, statistics: str) -> dict[str, Any]:
    objective = Objective(network=network, batches=list(subject.batches(SPLIT, settings.examples)))
    loss, error = objective.loss_and_error()
    row = {"split": SPLIT, "statistics": statistics, "loss": loss, "error": error}
    return row | {"examples": objective.examples, "settings_seed": settings.seed}


def draws(subject: Subject, settings: Settings, *numbers: int) -> np.random.Generator:
    """A generator that depends on the experiment's and the run's seed and on ``numbers``: equal in a matched pair."""
    return np.random.default_rng([settings.seed, subject.run.seed, *numbers])
