"""lesion: a trained network without one block, or without k random ones -> its test error (Veit et al. 2016)."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from degradation.experiments import ablation, evaluate
from degradation.experiments.experiment import Experiment, Settings
from degradation.experiments.trained_run import Subject
from degradation.frames.schemas import INTEGER, TEXT

COLUMNS = {
    "kind": TEXT,  # intact, single: one block deleted, each in turn; random: a drawn set of blocks
    "deleted": INTEGER,  # k, how many blocks
    "draw": INTEGER,  # of a random set, from 0; 0 elsewhere
    "block": INTEGER,  # number of the one deleted, 1-based; 0 elsewhere
    "name": TEXT,  # its name; empty elsewhere
    "stage": INTEGER,  # its stage; 0 elsewhere
    "keeps_shape": INTEGER,  # 1 where every deleted block's output has the shape of its input
    "blocks": TEXT,  # all numbers deleted, in order
    "how": TEXT,  # branch off (residual), block skipped (plain); or why it is not possible, the error then missing
    **evaluate.COLUMNS,
}


def parts(subject: Subject, settings: Settings) -> Sequence[str]:
    """``intact``; ``block-B`` for each block; ``random-K-D`` for draw D of K blocks among those that keep shapes.

    K goes from 2 to all of them at ``points`` values evenly; all of them is one set, so drawn once.
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
    kind, *numbers = part.split("-")
    if kind == "random":
        k, draw = map(int, numbers)
        return pd.DataFrame(list(_random(subject, settings, k, draw)))
    return pd.DataFrame(list(_single(subject, settings, int(numbers[0])) if numbers else _intact(subject, settings)))


def _described(kind: str, numbers: Sequence[int], **further: Any) -> dict[str, Any]:
    fields = {"kind": kind, "deleted": len(numbers), "draw": 0, "block": 0, "name": "", "stage": 0, "keeps_shape": 1}
    return fields | {"blocks": " ".join(map(str, numbers)), "how": ""} | further


def _intact(subject: Subject, settings: Settings) -> Iterator[dict[str, Any]]:
    yield from (_described("intact", ()) | row for row in evaluate.tried(subject, settings))


def _single(subject: Subject, settings: Settings, number: int) -> Iterator[dict[str, Any]]:
    network = subject.network()
    block = network.layout.blocks[number - 1]
    how = ablation.deletion_method(network, block)
    columns = _described(
        "single",
        (number,),
        block=number,
        name=block.name,
        stage=block.stage,
        keeps_shape=int(ablation.keeps_shape(network, block)),
        how=how,
    )
    if how == ablation.IMPOSSIBLE:
        kinds = [evaluate.RUNNING, *([evaluate.REESTIMATED] if subject.run.norm == "batch" else [])]
        nothing = {"split": evaluate.SPLIT, "loss": np.nan, "error": np.nan, "examples": 0}
        nothing["settings_seed"] = settings.seed
        yield from (columns | nothing | {"statistics": statistics} for statistics in kinds)
        return
    yield from (columns | row for row in evaluate.tried(subject, settings, partial(ablation.delete, numbers=(number,))))


def _random(subject: Subject, settings: Settings, k: int, draw: int) -> Iterator[dict[str, Any]]:
    network = subject.network()
    among = [block.number for block in ablation.keeping_shape(network)]
    chosen = sorted(evaluate.draws(subject, settings, k, draw).choice(among, k, replace=False).tolist())
    how = ablation.deletion_method(network, network.layout.blocks[chosen[0] - 1])
    columns = _described("random", chosen, draw=draw, how=how)
    yield from (columns | row for row in evaluate.tried(subject, settings, partial(ablation.delete, numbers=chosen)))


LESION = Experiment(
    name="lesion",
    question="How much does a network lose with a block, or with several?",
    columns=COLUMNS,
    parts=parts,
    measure=measure,
)
