"""A trained residual network -> the gradient's norm at the input along random paths through k of its blocks.

A path takes the branch of k blocks and the shortcut of all others (Veit et al. 2016, arXiv:1605.06431, section 4.3):
one forward pass through the whole network, then a backward pass in which the gradient goes through one of the two in
each block. n blocks have 2^n paths, C(n, k) of length k, and the sum of their gradients is the network's gradient.
"""

import math
from collections.abc import Collection, Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from degradation.experiments.draws import generator_for
from degradation.experiments.experiment import Experiment, Settings
from degradation.experiments.trained_run import Subject
from degradation.frames.schemas import INTEGER, REAL, TEXT
from degradation.networks.layout import Layout
from degradation.probes import Taps
from degradation.training.step import use_statistics

EXAMPLES = 64  # a path's gradient is of one batch, the same for every path
PATHS_PER_DRAW = 5
STATISTICS = "running"

COLUMNS: Mapping[str, str] = {
    "length": INTEGER,  # branches on the path
    "draw": INTEGER,
    "gradient_norm": REAL,  # L2, of the mean loss with respect to the whole batch of inputs, along this path alone
    "full_gradient_norm": REAL,  # of the same loss along all paths
    "paths": REAL,  # C(blocks, length)
    "share": REAL,  # of all paths: C(blocks, length) / 2^blocks
    "blocks": INTEGER,
    "statistics": TEXT,
    "examples": INTEGER,
}


class Unravelled:
    """One forward pass of a residual network, whose gradient can be computed along one path after another.

    ``images`` (N, 3, H, W) and ``labels`` (N) in; the loss is their mean cross-entropy. ``full`` is the gradient along
    all paths.
    """

    def __init__(self, network: nn.Module, layout: Layout, images: Tensor, labels: Tensor, statistics: str) -> None:
        self.blocks = layout.blocks
        self.images = images.detach().clone().requires_grad_()
        shortcuts = [block.shortcut for block in self.blocks if block.shortcut]
        names = [block.branch for block in self.blocks] + [block.name for block in self.blocks] + shortcuts
        if len(shortcuts) != len(self.blocks):
            raise ValueError("a network without shortcuts has one path")
        with use_statistics(network, statistics), Taps(network, names) as taps, torch.enable_grad():
            loss = F.cross_entropy(network(self.images), labels)
        self.outputs = taps.outputs
        self._end = self._grad(loss, self.outputs[self.blocks[-1].name], None)
        self.full = self._grad(loss, self.images, None)

    def along(self, taken: Collection[int]) -> Tensor:
        """The gradient at the input along the path through the branches of the blocks with these numbers (1-based)."""
        signal = self._end
        inputs = [self.images, *(self.outputs[block.name] for block in self.blocks)]
        for block, before in reversed(list(zip(self.blocks, inputs, strict=False))):
            # Through the last ReLU: both sides of the addition get the same gradient. The branch's output is never the
            # block's own input.
            summed = self._grad(self.outputs[block.name], self.outputs[block.branch], signal)
            side = self.outputs[block.branch if block.number in taken else str(block.shortcut)]
            signal = self._grad(side, before, summed)
        return signal

    @staticmethod
    def _grad(of: Tensor, to: Tensor, signal: Tensor | None) -> Tensor:
        (gradient,) = torch.autograd.grad(of, to, signal, retain_graph=True)
        return gradient


def parts(subject: Subject, _settings: Settings) -> Sequence[str]:
    """One part for each length, 0 to the number of blocks; a plain network has a single path, through all of them."""
    blocks = len(subject.network().layout.blocks)
    lengths = range(blocks + 1) if subject.run.network == "residual" else (blocks,)
    return [f"length-{length:03d}" for length in lengths]


def weight(settings: Settings, part: str) -> float:
    """The number of backward passes and one forward pass; there is one path of length 0."""
    return 1 if part == "length-000" else 1 + PATHS_PER_DRAW * settings.draws


def measure(subject: Subject, settings: Settings, part: str) -> pd.DataFrame:
    """The rows of one length: as many random paths as the settings give, or the only one."""
    length = int(part.split("-")[1])
    network = subject.network()
    images, labels = next(iter(subject.batches("train", min(EXAMPLES, settings.examples))))
    blocks, residual = len(network.layout.blocks), subject.run.network == "residual"
    if residual:
        unravelled = Unravelled(network, network.layout, images, labels, STATISTICS)
        paths = _random_paths(subject, settings, length, blocks)
        full, norms = float(unravelled.full.norm()), [float(unravelled.along(path).norm()) for path in paths]
    else:
        full = float(_gradient(network, images, labels).norm())
        norms = [full]
    count = math.comb(blocks, length)
    data = pd.DataFrame({"length": length, "draw": range(len(norms)), "gradient_norm": norms})
    data = data.assign(full_gradient_norm=full, paths=count, share=count / 2**blocks if residual else 1.0)
    return data.assign(blocks=blocks, statistics=STATISTICS, examples=len(labels)).astype(COLUMNS)


def _random_paths(subject: Subject, settings: Settings, length: int, blocks: int) -> list[list[int]]:
    """The blocks, numbered from 1, of each random path of this length."""
    count = PATHS_PER_DRAW * settings.draws if 0 < length < blocks else 1
    draws = generator_for(subject, settings, "paths", length)
    return [sorted(1 + draws.choice(blocks, length, replace=False)) for _ in range(count)]


def _gradient(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The gradient at the input of a network in evaluation mode."""
    inputs = images.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(network(inputs), labels), inputs)
    return gradient


PATHS = Experiment(
    name="paths",
    question="Through how many blocks does the gradient that trains a residual network come?",
    columns=COLUMNS,
    parts=parts,
    measure=measure,
    weight=weight,
)
