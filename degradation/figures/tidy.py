"""Frames of a study -> tidy data: one row per drawn point, the seeds of a network as mean and range."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from degradation.errors import UseError
from degradation.results import Results
from degradation.spec import PROBES

SERIES = ["network", "shortcut", "depth", "status", "run"]
"""What tells one drawn line from another; ``run`` is the id of a diverged run, empty for finished seeds."""


class Series(NamedTuple):
    """One drawn line: the finished seeds of a network together, or one diverged run alone."""

    network: str
    shortcut: str
    depth: int
    status: str
    run: str

    @property
    def kind(self) -> tuple[str, str]:
        """Network and shortcut."""
        return self.network, self.shortcut

    @property
    def diverged(self) -> bool:
        return self.status == "diverged"


def measured(results: Results, frame: str, figure: str) -> pd.DataFrame:
    """The named frame with the columns shortcut, status and run added.

    Raises UseError, in one line that says what is missing, where the study has no row of it.
    """
    data = results[frame]
    if data.empty:
        raise UseError(f"figure {figure} {_missing(results, frame)}")
    status = {run_id: results.folder.done(run_id)["status"] for run_id in results.run_ids}
    data = data.assign(
        shortcut=data["run_id"].map({run_id: spec.shortcut for run_id, spec in results.specs.items()}),
        status=data["run_id"].map(status),
    )
    return data.assign(run=data["run_id"].where(data["status"] == "diverged", ""))


def _missing(results: Results, frame: str) -> str:
    if not results.run_ids:
        return f"needs a run that is done, and the study {results.name} has none yet: run it first"
    if frame in PROBES and frame not in results.study.measure.probes:
        return f"needs the probe '{frame}', which this study did not record"
    if frame == "branches" and all(spec.network == "plain" for spec in results.specs.values()):
        return "needs a residual network, and no run that is done has one"
    return f"needs the frame '{frame}', of which no run that is done has a row"


def prefer(data: pd.DataFrame, statistics: str) -> pd.DataFrame:
    """The rows with these batch-norm statistics; all rows of a split that was never measured with them."""
    wanted = data["statistics"] == statistics
    has_it = wanted.groupby(data["split"]).transform("any")
    return data[wanted | ~has_it]


def last_rows(data: pd.DataFrame) -> pd.DataFrame:
    """The rows of each run's last step."""
    return data[data["step"] == data.groupby("run_id")["step"].transform("max")]


def steps_between(data: pd.DataFrame, count: int) -> tuple[int, ...]:
    """``count`` recorded steps: the first, the last, and between them evenly by row, so denser early."""
    steps = np.sort(data["step"].unique())
    rows = np.unique(np.linspace(0, len(steps) - 1, count).round().astype(int))
    return tuple(int(step) for step in steps[rows])


def over_seeds(data: pd.DataFrame, value: str, by: Sequence[str]) -> pd.DataFrame:
    """SERIES and ``by`` -> mean, low and high (lowest and highest seed) of a column, and how many seeds.

    Values that are not finite become missing: a line has a gap there. Diverged runs stay single.
    """
    finite = data.assign(**{value: data[value].where(np.isfinite(data[value]))})
    groups = finite.groupby([*SERIES, *by])[value]
    return groups.agg(mean="mean", low="min", high="max", seeds="count").reset_index()


def series(data: pd.DataFrame) -> Iterator[tuple[Series, pd.DataFrame]]:
    """Each drawn line with its rows, plain before residual, shallow before deep."""
    for key, rows in data.groupby(SERIES):
        network, shortcut, depth, status, run = map(str, key)
        yield Series(network, shortcut, int(depth), status, run), rows


def kinds(data: pd.DataFrame) -> list[tuple[str, str]]:
    """The pairs of network and shortcut in the data, plain first."""
    return sorted({(str(n), str(s)) for n, s in zip(data["network"], data["shortcut"], strict=True)})


def of_kind(data: pd.DataFrame, kind: tuple[str, str]) -> pd.DataFrame:
    """The rows of one network and shortcut."""
    return data[(data["network"] == kind[0]) & (data["shortcut"] == kind[1])]
