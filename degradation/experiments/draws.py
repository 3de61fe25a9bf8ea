"""A run's seed, an experiment's seed and a name -> a random generator, the same for both networks of a matched pair."""

import numpy as np
import torch
from torch import Tensor, nn

from degradation.experiments.experiment import Settings
from degradation.experiments.trained_run import Subject
from degradation.networks.weights import generator


def drawn_from(subject: Subject, settings: Settings, *what: object) -> np.random.Generator:
    """The generator of what is drawn; it knows neither network nor depth."""
    return generator(subject.run.seed, "/".join(map(str, (settings.seed, *what))))


def normal_like(network: nn.Module, subject: Subject, settings: Settings, *what: object) -> dict[str, Tensor]:
    """Standard normal numbers in the shape of every parameter, by its name: a twin gets the same."""
    return {
        name: torch.from_numpy(
            drawn_from(subject, settings, *what, name).standard_normal(weight.shape, dtype=np.float32)
        ).to(weight.device)
        for name, weight in network.named_parameters()
    }


def signs_like(network: nn.Module, subject: Subject, settings: Settings, *what: object) -> Tensor:
    """Independent signs, +1 or -1, for every parameter, as one flat vector (P,)."""
    normal = normal_like(network, subject, settings, *what)
    return torch.cat([torch.where(numbers < 0, -1.0, 1.0).reshape(-1) for numbers in normal.values()])
