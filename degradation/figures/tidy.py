"""Frames of a study -> tidy data: one row per drawn point, the seeds of a network as mean and range."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from degradation.errors import UserError
from degradation.frames.concat import spread
from degradation.spec import PROBE_NAMES
from degradation.store import EXPERIMENTS
from degradation.study.results import Results

SERIES = ["arm", "network", "shortcut", "depth", "status", "run"]
"""Columns that identify a drawn line; ``run`` is the id of a diverged run, empty for finished seeds."""

DRAWN = {
    "gradients": ("step", "layer", "stage", "weight_grad_norm"),
    "responses": ("step", "layer", "stage", "split", "statistics", "std"),
    "branches": ("step", "block", "stage", "split", "statistics", "ratio"),
}
"""The columns that figures read of the frames that have a row for each layer and step."""


class Kind(NamedTuple):
    """A panel: network and shortcut, in one arm of the study."""

    network: str
    shortcut: str
    arm: str = ""


class Series(NamedTuple):
    """One drawn line: the finished seeds of a network together, or one diverged run alone."""

    network: str
    shortcut: str
    depth: int
    status: str
    run: str
    arm: str = ""

    @property
    def kind(self) -> Kind:
        return Kind(self.network, self.shortcut, self.arm)

    @property
    def diverged(self) -> bool:
        return self.status == "diverged"


def study_frame(results: Results, frame: str, figure: str = "") -> pd.DataFrame:
    """The named frame with the columns shortcut, status, run and arm (in the study's order) added.

    Of a frame of ``DRAWN`` only ``run_id``, network, depth and its columns. Raises UserError with what is missing if
    the study has no row of the frame; ``figure`` is named in it, if it has not the frame's name.
    """
    data = results.frame(frame, DRAWN[frame]) if frame in DRAWN else results[frame]
    if data.empty:
        raise UserError(f"figure {figure or frame} {missing_for(results, frame)}")
    specs, run_ids = results.specs, data["run_id"]
    by_run = {
        "network": {run_id: str(spec.network) for run_id, spec in specs.items()},
        "shortcut": {run_id: str(spec.shortcut) for run_id, spec in specs.items()},
        "status": results.status,
        "run": {run_id: run_id if status == "diverged" else "" for run_id, status in results.status.items()},
    }
    texts = {name: spread(run_ids, values) for name, values in by_run.items()}
    arm = spread(run_ids, results.arms, list(results.study.each_arm))
    return data.assign(depth=run_ids.map({run_id: spec.depth for run_id, spec in specs.items()}), **texts, arm=arm)


def missing_for(results: Results, frame: str) -> str:
    """What the study needs to have rows of a frame, as the end of a sentence."""
    if not results.run_ids:
        return f"needs a run that is done, and the study {results.name} has none yet: run it first"
    if frame in PROBE_NAMES and frame not in results.study.measure.probes:
        return f"needs the probe '{frame}', which this study did not record"
    if frame in EXPERIMENTS:
        return f"needs the experiment '{frame}': run `degradation experiment {results.name} {frame}` first"
    if frame == "branches" and all(spec.network == "plain" for spec in results.specs.values()):
        return "needs a residual network, and no run that is done has one"
    return f"needs the frame '{frame}', of which no run that is done has a row"


def prefer(data: pd.DataFrame, statistics: str) -> pd.DataFrame:
    """The rows with these batch-norm statistics; all rows of a split that was never measured with them."""
    preferred = data["statistics"] == statistics
    return data[preferred | ~preferred.groupby(data["split"], observed=True).transform("any")]


def last_rows(data: pd.DataFrame) -> pd.DataFrame:
    """The rows of each run's last step."""
    return data[data["step"] == data.groupby("run_id", observed=True)["step"].transform("max")]


def at_last_step(data: pd.DataFrame) -> pd.DataFrame:
    """The rows of the last step of each arm: its other runs may have diverged before."""
    return data[data["step"] == data.groupby("arm", observed=True)["step"].transform("max")]


def at_steps_between(data: pd.DataFrame, count: int) -> pd.DataFrame:
    """The rows of ``count`` recorded steps of each arm, with their place 0, 1, ... among these in ``column``.

    The first, the last, and between them evenly by row, so denser early.
    """
    parts = []
    for _, arm in data.groupby("arm", observed=True):
        steps = np.sort(arm["step"].unique())
        rows = np.unique(np.linspace(0, len(steps) - 1, count).round().astype(int))
        chosen = arm[arm["step"].isin(steps[rows])]
        parts.append(chosen.assign(column=np.searchsorted(steps[rows], chosen["step"])))
    return pd.concat(parts)


def over_seeds(data: pd.DataFrame, value: str, by: Sequence[str]) -> pd.DataFrame:
    """SERIES and ``by`` -> mean, low and high (lowest and highest seed) of a column, and how many seeds.

    Values that are not finite become missing: a line has a gap there. Each diverged run stays a line.
    """
    finite = data.assign(**{value: data[value].where(np.isfinite(data[value]))})
    groups = finite.groupby([*SERIES, *by], observed=True)[value]
    seeds = groups.agg(mean="mean", low="min", high="max", seeds="count").reset_index()
    texts = [name for name in seeds.select_dtypes("category") if name != "arm"]
    return seeds.astype(dict.fromkeys(texts, str))


def series(data: pd.DataFrame) -> Iterator[tuple[Series, pd.DataFrame]]:
    """Each drawn line with its rows: by arm, plain before residual, shallow before deep."""
    for key, rows in data.groupby(SERIES, observed=True):
        arm, network, shortcut, depth, status, run = map(str, key)
        yield Series(network, shortcut, int(depth), status, run, arm), rows


def arms(data: pd.DataFrame) -> list[str]:
    """The arms in the data, in the study's order; a single empty name if the study has no arms."""
    return [str(arm) for arm in data["arm"].cat.categories if (data["arm"] == arm).any()]


def kinds(data: pd.DataFrame) -> list[Kind]:
    """Network and shortcut of the data in each arm, plain first."""
    present = data[list(Kind._fields)].drop_duplicates().astype(str)
    order = arms(data)
    return sorted(map(Kind._make, present.to_numpy()), key=lambda kind: (order.index(kind.arm), kind))


def of_kind(data: pd.DataFrame, kind: Kind) -> pd.DataFrame:
    """The rows of one network and shortcut in one arm."""
    return data[(data["network"] == kind.network) & (data["shortcut"] == kind.shortcut) & (data["arm"] == kind.arm)]
