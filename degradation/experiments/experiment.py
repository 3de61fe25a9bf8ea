"""An experiment on one trained run, done part by part, whose rows make one long frame."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from degradation.experiments.trained_run import Subject


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is measured; the defaults take minutes for a study of small networks on two CPU cores."""

    examples: int = 500
    """Number of images used, of each split that an experiment needs; it is in every row."""
    seed: int = 0
    """Seed of the draws, together with the run's seed, so that the two runs of a matched pair have equal draws."""
    draws: int = 3
    """Random draws of each kind: sets of blocks, permutations, directions."""
    points: int = 5
    """Points along the axis that an experiment varies."""

    def __str__(self) -> str:
        return f"{self.examples:,} examples, {self.draws} draws, {self.points} points, seed {self.seed}"


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One experiment and the frame that it fills.

    ``columns`` gives the frame's columns with their types, as in ``frames.schemas.SCHEMAS``. ``parts`` returns the
    names, in lower-case letters, digits and ``-``, of parts that are measured and saved one by one: an interruption
    loses at most one. ``measure`` returns the rows of one part; equal arguments give equal rows. ``weight`` is the work
    of a part relative to the other parts of its run, to estimate the remaining time.
    """

    name: str
    question: str
    columns: Mapping[str, str]
    parts: Callable[[Subject, Settings], Sequence[str]]
    measure: Callable[[Subject, Settings, str], pd.DataFrame]
    weight: Callable[[Settings, str], float] = lambda _settings, _part: 1.0
