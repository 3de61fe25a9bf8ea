"""identity: the input and output of each block of a trained network -> how near the block is to the identity."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from degradation.experiments.experiment import Experiment, Settings
from degradation.experiments.trained_run import Subject
from degradation.frames.schemas import INTEGER, REAL, TEXT
from degradation.networks.layout import Block
from degradation.probes import Taps
from degradation.training.step import forward

MOST_EXAMPLES = 512
"""Of a stage's representations, which lie in memory together: up to 64 kB an image and block."""
FIRST = "relu"
"""The module whose output the first block takes."""

COLUMNS = {
    "block": INTEGER,  # 1-based, in order
    "name": TEXT,
    "stage": INTEGER,
    "split": TEXT,
    "statistics": TEXT,
    "examples": INTEGER,
    "against": TEXT,  # what the output is compared with in change and cosine: input; shortcut, where shapes differ
    "ratio": REAL,  # |F(x)| / |shortcut(x)|, L2 over all examples; missing in a plain block, which has no shortcut
    "change": REAL,  # |y - x| / |x|, L2 over all examples; missing in a plain block whose shapes differ
    "cosine": REAL,  # of x and y, mean over examples; missing likewise
    "cka": REAL,  # linear CKA of x and y, unbiased; it needs no equal shapes
}


def parts(subject: Subject, settings: Settings) -> Sequence[str]:
    """``stage-1``, ``stage-2``, ``stage-3``."""
    return [f"stage-{stage}" for stage in sorted({block.stage for block in subject.network().layout.blocks})]


@torch.inference_mode()
def measure(subject: Subject, settings: Settings, part: str) -> pd.DataFrame:
    """Ratio, change, cosine and CKA of every block of a stage, on clean test images with running statistics.

    x is a block's input, behind the ReLU of the one before it, y its output, behind its own ReLU. Where their shapes
    differ, the output is compared with the shortcut, which brings the input to the output's shape (option A: every
    second pixel and zero channels); a plain block has none, and only its CKA is known.
    """
    network = subject.network()
    every = network.layout.blocks
    inputs = dict(zip([block.name for block in every], [FIRST, *(block.name for block in every)], strict=False))
    watches = [BlockComparison(block, inputs[block.name]) for block in every if f"stage-{block.stage}" == part]
    names = {name for watch in watches for name in watch.names}
    kept: dict[str, list[Tensor]] = {name: [] for watch in watches for name in (watch.source, watch.block.name)}
    for images, _ in subject.batches("test", min(settings.examples, MOST_EXAMPLES)):
        with Taps(network, names) as taps:
            forward(network, images, subject.environment)
        seen = {name: output.float().flatten(1) for name, output in taps.outputs.items()}
        for watch in watches:
            watch.look(seen)
        for name, batches in kept.items():
            batches.append(seen[name])
    grams = {name: gram(torch.cat(batches)) for name, batches in kept.items()}
    return pd.DataFrame([watch.row(grams) for watch in watches])


class BlockComparison:
    """One block's sums over batches: squares of what its numbers compare, and the cosine of each example."""

    def __init__(self, block: Block, source: str) -> None:
        self.block, self.source = block, source
        self.against = ""
        self.examples = 0
        self.cosines = 0.0
        self.squares = dict.fromkeys(("branch", "shortcut", "difference", "against"), 0.0)

    @property
    def names(self) -> tuple[str, ...]:
        """The modules whose outputs are looked at."""
        block = self.block
        return (self.source, block.name, *((block.branch, block.shortcut) if block.shortcut is not None else ()))

    def look(self, seen: Mapping[str, Tensor]) -> None:
        """Add a batch of outputs, each (examples, values), by module name."""
        x, y, shortcut = seen[self.source], seen[self.block.name], self.block.shortcut
        self.examples += len(x)
        found = {}
        if shortcut is not None:
            found = {"branch": seen[self.block.branch], "shortcut": seen[shortcut]}
        against = x if x.shape == y.shape else found.get("shortcut")
        if against is not None:
            self.against = "input" if against is x else "shortcut"
            found |= {"difference": y - against, "against": against}
            self.cosines += cosine(against, y) * len(x)
        for name, tensor in found.items():
            self.squares[name] += float(tensor.double().square().sum())

    def row(self, grams: Mapping[str, Tensor]) -> dict[str, Any]:
        """The block's row, with the Gram matrices (``gram``) of its input and its output."""
        block, squares = self.block, self.squares
        return {
            "block": block.number,
            "name": block.name,
            "stage": block.stage,
            "split": "test",
            "statistics": "running",
            "examples": self.examples,
            "against": self.against,
            "ratio": _root(squares["branch"], squares["shortcut"]),
            "change": _root(squares["difference"], squares["against"]),
            "cosine": self.cosines / self.examples if self.against else float("nan"),
            "cka": aligned(grams[self.source], grams[block.name]),
        }


def _root(numerator: float, denominator: float) -> float:
    return float((numerator / denominator) ** 0.5) if denominator > 0 else float("nan")


def cosine(x: Tensor, y: Tensor) -> float:
    """The cosine of the angle between x and y (examples, values), example by example, then the mean."""
    return float(torch.nn.functional.cosine_similarity(x.double(), y.double(), dim=1).mean())


def cka(x: Tensor, y: Tensor) -> float:
    """Linear CKA of two representations (examples, values) of the same examples; their values need not be as many.

    Kornblith et al. 2019 (arXiv:1905.00414, section 3): HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)), K = x x^T, L = y y^T.
    With fewer examples than values the usual estimate of HSIC calls even independent representations alike, so this
    is the unbiased one of Song et al. 2012 (equation 5); it can fall below 0. Needs four examples or more; NaN if
    a representation is the same for all examples.
    """
    return aligned(gram(x), gram(y))


def gram(x: Tensor) -> Tensor:
    """x x^T of the centred x, (examples, examples) in float64, its diagonal zero as the unbiased estimate asks.

    Centring changes nothing in exact arithmetic; it keeps small differences from drowning in a large mean.
    """
    centred = x - x.mean(0)
    return (centred @ centred.T).double().fill_diagonal_(0.0)


def aligned(k: Tensor, l: Tensor) -> float:  # noqa: E741
    """CKA from two Gram matrices without diagonal."""
    scale = float((hsic(k, k) * hsic(l, l)).clamp(min=0).sqrt())
    return float(hsic(k, l)) / scale if scale > 0 else float("nan")


def hsic(k: Tensor, l: Tensor) -> Tensor:  # noqa: E741
    """The unbiased estimate of HSIC from two Gram matrices without diagonal (Song et al. 2012, equation 5)."""
    n = len(k)
    cross = k.sum(0) @ l.sum(0)
    total = (k * l).sum() + k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 * cross / (n - 2)
    return total / (n * (n - 3))


IDENTITY = Experiment(
    name="identity",
    question="How near is each block to the identity?",
    columns=COLUMNS,
    parts=parts,
    measure=measure,
)
