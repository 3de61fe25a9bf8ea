"""lesion: a trained network without one block, or without k random ones -> its test error (Veit et al. 2016)."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from degradation.experiments import ablation, evaluate
from degradation.experiments.experiment import Experiment, Settings
from degradation.experiments.trained_run import Subject
from degradation.frames.schemas import INTEGER, TEXT

COLUMNS = {
    "kind": TEXT,  # intact; single: one block deleted, each in turn; random: a random set of blocks
    "deleted": INTEGER,  # k, the number of blocks deleted
    "draw": INTEGER,  # number of a random set, from 0; 0 for other kinds
    "block": INTEGER,  # number of the single block, 1-based; 0 for other kinds
    "name": TEXT,  # its name; empty for other kinds
    "stage": INTEGER,  # its stage; 0 for other kinds
    "keeps_shape": INTEGER,  # 1 if every deleted block's output has the shape of its input
    "blocks": TEXT,  # all numbers deleted, in order
    "how": TEXT,  # branch off (residual), block skipped (plain); or why it is not possible, the error then missing
    **evaluate.COLUMNS,
}


def parts(subject: Subject, settings: Settings) -> Sequence[str]:
    """``intact``; ``block-B`` for each block; ``random-K-D`` for draw D of K blocks among those that keep shapes.

    K takes ``points`` values evenly from 2 to all of them; all of them is one set, so there is one draw.
    """
    network = subject.network()
    most = len(ablation.keeping_shape(network))
    counts = sorted({round(c) for c in np.linspace(2, most, settings.points)}) if most >= 2 else []
    return [
        "intact",
        *(f"block-{block.number}" for block in network.layout.blocks),
        *(f"random-{k}-{draw}" for k in counts for draw in range(1 if k == most else settings.draws)),
    ]


def measure(subject: Subject, settings: Settings, part: str) -> pd.DataFrame:
    """The error without the part's blocks, with the statistics as trained and re-estimated after the deletion."""
    network = subject.network()
    blocks, deleted = network.layout.blocks, []
    columns = {"kind": "intact", "draw": 0, "block": 0, "name": "", "stage": 0, "keeps_shape": 1, "how": ""}
    kind, *numbers = part.split("-")
    if kind == "block":
        block = blocks[int(numbers[0]) - 1]
        deleted = [block.number]
        columns |= {"kind": "single", "block": block.number, "name": block.name, "stage": block.stage}
        columns |= {"keeps_shape": int(ablation.keeps_shape(network, block))}
    elif kind == "random":
        k, draw = map(int, numbers)
        among = [block.number for block in ablation.keeping_shape(network)]
        deleted = sorted(evaluate.draws(subject, settings, k, draw).choice(among, k, replace=False).tolist())
        columns |= {"kind": "random", "draw": draw}
    if deleted:
        columns["how"] = ablation.deletion_method(network, blocks[deleted[0] - 1])
    columns |= {"deleted": len(deleted), "blocks": " ".join(map(str, deleted))}
    rows: Iterable[dict[str, Any]]
    if columns["how"] == ablation.IMPOSSIBLE:
        kinds = [evaluate.RUNNING, evaluate.REESTIMATED] if subject.run.norm == "batch" else [evaluate.RUNNING]
        missing = {"split": evaluate.SPLIT, "loss": np.nan, "error": np.nan, "examples": 0}
        rows = [missing | {"statistics": statistics, "settings_seed": settings.seed} for statistics in kinds]
    else:
        rows = evaluate.error_rows(subject, settings, partial(ablation.delete, numbers=deleted))
    return pd.DataFrame([columns | row for row in rows])


LESION = Experiment(
    name="lesion",
    question="How much does a network lose with a block, or with several?",
    columns=COLUMNS,
    parts=parts,
    measure=measure,
)
