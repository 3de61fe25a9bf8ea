"""A run's seed, an experiment's seed and a name -> random numbers, the same for both networks of a matched pair."""

import numpy as np
import torch
from torch import Tensor, nn

from degradation.experiments.experiment import Settings
from degradation.experiments.trained_run import Subject
from degradation.networks.weights import generator


def generator_for(subject: Subject, settings: Settings, *name: object) -> np.random.Generator:
    """The generator for the draws of this name; it depends on neither network nor depth."""
    return generator(subject.run.seed, "/".join(map(str, (settings.seed, *name))))


def normal_like(network: nn.Module, subject: Subject, settings: Settings, *name: object) -> dict[str, Tensor]:
    """Standard normal numbers in the shape of every parameter, by its name: equal in a matched pair."""
    numbers = {}
    for parameter, weight in network.named_parameters():
        draws = generator_for(subject, settings, *name, parameter)
        normal = draws.standard_normal(weight.shape, dtype=np.float32)
        numbers[parameter] = torch.from_numpy(normal).to(weight.device)
    return numbers


def signs_like(network: nn.Module, subject: Subject, settings: Settings, *name: object) -> Tensor:
    """Independent signs, +1 or -1, for every parameter, as one flat vector (P,)."""
    normal = normal_like(network, subject, settings, *name)
    return torch.cat([torch.where(numbers < 0, -1.0, 1.0).reshape(-1) for numbers in normal.values()])
