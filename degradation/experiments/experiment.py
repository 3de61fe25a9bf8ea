"""An experiment on one trained run, done part by part, whose rows make one long frame."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from degradation.experiments.trained_run import Subject


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is measured; the defaults end within minutes for a study of small networks on two CPU cores."""

    examples: int = 500
    """Images used, of each split that an experiment needs; every row says how many it used."""
    seed: int = 0
    """Of whatever an experiment draws; together with the run's seed, so that the two of a matched pair draw alike."""
    draws: int = 3
    """Random draws of each kind: sets of blocks, permutations, directions."""
    points: int = 5
    """Points along the axis that an experiment varies."""

    def __str__(self) -> str:
        return f"{self.examples:,} examples, {self.draws} draws, {self.points} points, seed {self.seed}"


def _alike(_settings: Settings, _part: str) -> float:
    return 1.0


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One experiment and the frame that it fills.

    ``columns`` gives the frame's columns with their types, as in ``frames.schemas.SCHEMAS``. ``parts`` names what can
    be done and kept one by one, in lower-case letters, digits and ``-``: an interruption loses at most one. ``measure``
    returns the rows of one part; equal arguments give equal rows. ``weight`` is the work of a part relative to the
    other parts of its run, to estimate the remaining time.
    """

    name: str
    question: str
    columns: Mapping[str, str]
    parts: Callable[[Subject, Settings], Sequence[str]]
    measure: Callable[[Subject, Settings, str], pd.DataFrame]
    weight: Callable[[Settings, str], float] = _alike
