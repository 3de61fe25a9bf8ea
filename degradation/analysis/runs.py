"""Results -> the runs of a study for analysis: kind, arm, convergence, and which pairs match."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

import pandas as pd

from degradation.analysis.convergence import lacking
from degradation.study.pairs import Match, matches
from degradation.study.results import Results


@dataclass(frozen=True, kw_only=True)
class Run:
    """One done run. ``kind`` is plain or residual; in a study with several shortcut options, residual A.

    ``arm`` names what varies other than network, depth, seed and shortcut; it may be empty. Runs are compared
    within an arm.
    """

    run_id: str
    network: str
    shortcut: str
    kind: str
    depth: int
    seed: int
    arm: str
    finished: bool
    steps: int
    norm: str = "batch"
    block: str = ""
    """How its blocks differ from the paper's, as ``gate exclusive``."""
    lacks: str = ""
    """What is missing for convergence, see ``convergence.RULE``; empty if it has converged."""


class RunGroup(NamedTuple):
    """The seeds of one network: equal in all but the seed."""

    arm: str
    kind: str
    depth: int

    @property
    def label(self) -> str:
        """``plain 44``."""
        return f"{self.kind} {self.depth}"


@dataclass(frozen=True, kw_only=True)
class Runs:
    """The done runs of a study by group, and its matched pairs."""

    every: tuple[Run, ...]
    matched: tuple[Match, ...]
    first_arm: str = ""
    """The study's first arm, with which the others are compared; empty in a study without arms."""

    @cached_property
    def groups(self) -> dict[RunGroup, tuple[Run, ...]]:
        """Runs of equal arm, kind and depth by seed; plain before residual, shallow before deep."""
        groups = groupby(self.every, lambda run: RunGroup(run.arm, run.kind, run.depth))
        return {group: tuple(members) for group, members in groups}

    def kinds(self) -> Iterator[tuple[str, str, tuple[int, ...]]]:
        """Arm, kind and its depths, shallow first."""
        for (arm, kind), groups in groupby(self.groups, lambda group: (group.arm, group.kind)):
            yield arm, kind, tuple(group.depth for group in groups)

    @cached_property
    def matched_ids(self) -> set[tuple[str, str]]:
        """Ids, plain and residual, of the matched pairs whose weights and order were measured to be equal."""
        return {(match.plain, match.residual) for match in self.matched if match.holds}

    @cached_property
    def last_steps(self) -> dict[str, int]:
        """Id of each finished run -> its number of steps."""
        return {run.run_id: run.steps for run in self.every if run.finished}

    def at_last_step(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows of each finished run's last step."""
        return rows[rows["step"] == rows["run_id"].map(self.last_steps)]


def runs(results: Results) -> Runs:
    """The done runs, sorted by arm, kind, depth and seed, with the proof of their pairs.

    Raises DamagedError if a run's description is damaged.
    """
    options = {spec.shortcut for spec in results.specs.values() if spec.network == "residual"}
    arms, lacks = _arms(results), lacking(results)
    every = [
        Run(
            run_id=run_id,
            network=spec.network,
            shortcut=spec.shortcut,
            kind=f"residual {spec.shortcut}" if spec.network == "residual" and len(options) > 1 else spec.network,
            depth=spec.depth,
            seed=spec.seed,
            arm=arms[run_id],
            norm=spec.norm,
            block=", ".join(spec.block.changed),
            finished=results.status[run_id] == "finished",
            steps=spec.recipe.steps,
            lacks=lacks[run_id],
        )
        for run_id, spec in results.specs.items()
    ]
    ordered = sorted(every, key=lambda run: (run.arm, run.kind, run.depth, run.seed))
    first = next(iter(results.study.arms), "")
    return Runs(every=tuple(ordered), matched=matches(results.folder, results.study), first_arm=first)


def _arms(results: Results) -> dict[str, str]:
    """run_id -> its arm: the name if the study gives one, else the values of the axes that vary."""
    axes = [axis for axis in results.axes if axis != "shortcut"]
    named = ["arm"] if "arm" in axes else axes
    titles = {axis: axis.rpartition(".")[2].replace("_", " ") for axis in named}  # recipe.learning_rate: learning rate
    rows = results["runs"][["run_id", *named]].to_dict("records")
    return {
        str(row["run_id"]): ", ".join(
            str(row[axis]) if axis == "arm" else f"{title} {row[axis]}" for axis, title in titles.items()
        )
        for row in rows
    }
