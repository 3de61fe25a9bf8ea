"""identity: the input and output of each block of a trained network -> how close the block is to the identity."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from degradation.experiments.experiment import Experiment, Settings
from degradation.experiments.similarity import aligned, gram
from degradation.experiments.trained_run import Subject
from degradation.frames.schemas import INTEGER, REAL, TEXT
from degradation.networks.layout import Block
from degradation.probes import Taps
from degradation.training.step import forward

MOST_EXAMPLES = 512
"""The representations of a stage are in memory together: up to 64 kB an image and block."""
FIRST = "relu"
"""The module whose output is the first block's input."""

COLUMNS = {
    "block": INTEGER,  # 1-based, in order
    "name": TEXT,
    "stage": INTEGER,
    "split": TEXT,
    "statistics": TEXT,
    "examples": INTEGER,
    "against": TEXT,  # change and cosine compare the output with this: input; shortcut, if shapes differ
    "ratio": REAL,  # |F(x)| / |shortcut(x)|, L2 over all examples; missing in a plain block, which has no shortcut
    "change": REAL,  # |y - x| / |x|, L2 over all examples; missing in a plain block whose shapes differ
    "cosine": REAL,  # of x and y, mean over examples; missing as change is
    "cka": REAL,  # linear CKA of x and y, unbiased; the shapes may differ
}


def parts(subject: Subject, settings: Settings) -> Sequence[str]:
    """``stage-1``, ``stage-2``, ``stage-3``."""
    return [f"stage-{stage}" for stage in sorted({block.stage for block in subject.network().layout.blocks})]


@torch.inference_mode()
def measure(subject: Subject, settings: Settings, part: str) -> pd.DataFrame:
    """Ratio, change, cosine and CKA of every block of a stage, on clean test images with running statistics.

    x is a block's input, after the ReLU of the block before it; y is its output, after its own ReLU. If their shapes
    differ, the output is compared with the shortcut, which brings the input to the output's shape (option A: every
    second pixel and zero channels); a plain block has no shortcut, and only its CKA can be computed.
    """
    network = subject.network()
    inputs = [FIRST, *(block.name for block in network.layout.blocks)]
    pairs = zip(network.layout.blocks, inputs, strict=False)
    comparisons = [BlockComparison(block, source) for block, source in pairs if f"stage-{block.stage}" == part]
    names = {name for comparison in comparisons for name in comparison.names}
    compared = {name for comparison in comparisons for name in (comparison.source, comparison.block.name)}
    representations: dict[str, list[Tensor]] = {name: [] for name in compared}
    for images, _ in subject.batches("test", min(settings.examples, MOST_EXAMPLES)):
        with Taps(network, names) as taps:
            forward(network, images, subject.environment)
        outputs = {name: output.float().flatten(1) for name, output in taps.outputs.items()}
        for comparison in comparisons:
            comparison.add(outputs)
        for name, batches in representations.items():
            batches.append(outputs[name])
    grams = {name: gram(torch.cat(batches)) for name, batches in representations.items()}
    return pd.DataFrame([comparison.row(grams) for comparison in comparisons])


class BlockComparison:
    """One block's sums over batches: squares of the tensors that its numbers compare, and cosines of the examples."""

    def __init__(self, block: Block, source: str) -> None:
        self.block, self.source = block, source
        self.against, self.examples, self.cosines = "", 0, 0.0
        self.squares = dict.fromkeys(("branch", "shortcut", "difference", "against"), 0.0)

    @property
    def names(self) -> tuple[str, ...]:
        """The modules whose outputs are used."""
        block = self.block
        return (self.source, block.name, *((block.branch, block.shortcut) if block.shortcut is not None else ()))

    def add(self, outputs: Mapping[str, Tensor]) -> None:
        """Add a batch of outputs, each (examples, values), by module name."""
        x, y, shortcut = outputs[self.source], outputs[self.block.name], self.block.shortcut
        self.examples += len(x)
        tensors = {}
        if shortcut is not None:
            tensors = {"branch": outputs[self.block.branch], "shortcut": outputs[shortcut]}
        against = x if x.shape == y.shape else tensors.get("shortcut")
        if against is not None:
            self.against = "input" if against is x else "shortcut"
            tensors |= {"difference": y - against, "against": against}
            self.cosines += cosine(against, y) * len(x)
        for name, tensor in tensors.items():
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


IDENTITY = Experiment(
    name="identity",
    question="How near is each block to the identity?",
    columns=COLUMNS,
    parts=parts,
    measure=measure,
)
