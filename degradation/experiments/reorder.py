"""reorder: a trained network with blocks exchanged within stages -> its test error (Veit et al. 2016)."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from degradation.experiments import ablation, evaluate
from degradation.experiments.experiment import Experiment, Settings
from degradation.experiments.trained_run import Subject
from degradation.frames.schemas import INTEGER, REAL, TEXT
from degradation.networks.layout import Block

COLUMNS = {
    "swaps": INTEGER,  # number of exchanges of two blocks, one after the other; 0: as trained
    "draw": INTEGER,
    "order": TEXT,  # the numbers (1-based) of the blocks by place
    "tau": REAL,  # Kendall's, between the order and that of training, over all blocks; 1: the same
    **evaluate.COLUMNS,
}


def stages(blocks: Sequence[Block]) -> list[list[int]]:
    """The numbers of the blocks that can be exchanged with each other: those of one stage, if there are two or more."""
    by_stage = [[block.number for block in blocks if block.stage == stage] for stage in {b.stage for b in blocks}]
    return [numbers for numbers in by_stage if len(numbers) > 1]


def parts(subject: Subject, settings: Settings) -> Sequence[str]:
    """``swaps-0-0``, the order of training, then ``swaps-S-D`` for draw D of S exchanges.

    S grows geometrically from 1 to twice the number of blocks that can be exchanged, at ``points`` values. Depth 8
    has no two such blocks in a stage, so it has the first part only.
    """
    movable = sum(map(len, stages(ablation.keeping_shape(subject.network()))))
    counts = sorted({round(c) for c in np.geomspace(1, 2 * movable, settings.points)}) if movable else []
    return ["swaps-0-0", *(f"swaps-{swaps}-{draw}" for swaps in counts for draw in range(settings.draws))]


def measure(subject: Subject, settings: Settings, part: str) -> pd.DataFrame:
    """The error in the part's order, with the statistics as trained and re-estimated after the exchange."""
    swaps, draw = (int(number) for number in part.split("-")[1:])
    network = subject.network()
    blocks = [block.number for block in network.layout.blocks]
    among = stages(ablation.keeping_shape(network))
    order = exchanged(blocks, among, swaps, evaluate.draws(subject, settings, swaps, draw))
    columns = {"swaps": swaps, "draw": draw, "order": " ".join(map(str, order)), "tau": tau(order)}
    modify = partial(ablation.reorder, order=order)
    return pd.DataFrame([columns | row for row in evaluate.error_rows(subject, settings, modify)])


def exchanged(
    blocks: Sequence[int], among: Sequence[Sequence[int]], swaps: int, draws: np.random.Generator
) -> list[int]:
    """The blocks (1..B) after ``swaps`` exchanges, each of two places of one group, every such pair equally likely."""
    order = list(blocks)
    pairs = [(one, other) for group in among for place, one in enumerate(group) for other in group[:place]]
    for index in draws.integers(0, len(pairs), swaps) if pairs else ():
        one, other = pairs[index]
        order[one - 1], order[other - 1] = order[other - 1], order[one - 1]
    return order


def tau(order: Sequence[int]) -> float:
    """Kendall's rank correlation of an order with that of training: 1 if they are the same, -1 if reversed."""
    return float(kendalltau(range(len(order)), order).statistic)


REORDER = Experiment(
    name="reorder",
    question="How much does a network lose when the blocks of a stage change places?",
    columns=COLUMNS,
    parts=parts,
    measure=measure,
)
