"""A study folder -> the status of each planned run, its last row, and the final training errors. No torch."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import ValidationError

from degradation.errors import DamagedError, UserError
from degradation.spec import RunSpec, StudySpec, grid
from degradation.store import CHECKPOINT, StudyFolder, check_tensors, frame_file
from degradation.study.snapshot import StudySnapshot, damage, each, take_snapshot

State = Literal["done", "diverged", "running", "partial", "pending", "damaged"]
STATES: tuple[State, ...] = ("done", "diverged", "running", "partial", "pending", "damaged")
ENDED: tuple[State, ...] = ("done", "diverged")

Row = dict[str, Any]

# The row to show for a run: the clean training error if there is one, else that of training batches.
PREFERRED = (("train", "running"), ("train", "batch"), ("train_running", "batch"))


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """One planned run, its arm and its state; ``note`` describes the damage."""

    spec: RunSpec
    run_id: str
    state: State
    note: str = ""
    arm: str = ""


def run_statuses(
    folder: StudyFolder, study: StudySpec, *, verify: bool = False, weights: bool = False
) -> tuple[RunStatus, ...]:
    """Every planned run in the plan's order; a done run with a missing file is damaged.

    ``verify`` checks the files of each done run against their hashes, once each, and the weights with ``weights``.
    """
    snapshot = take_snapshot(folder)
    on_disk, planned = ids_by_spec(snapshot), grid.arms(study)
    ids = [on_disk.get(spec) or spec.run_id for spec in planned]
    notes = each(lambda run_id: damage(snapshot, run_id, verify=verify, weights=weights), ids)
    return tuple(
        RunStatus(spec=spec, run_id=run_id, state="damaged" if note else _state(snapshot, run_id), note=note, arm=arm)
        for (spec, arm), run_id, note in zip(planned.items(), ids, notes, strict=True)
    )


def strays(folder: StudyFolder, planned: Iterable[RunStatus]) -> dict[str, str]:
    """Folders that hold no planned run and cannot be read, such as renamed copies -> the damage."""
    snapshot = take_snapshot(folder)
    unplanned = sorted(set(snapshot.run_ids()) - {run_status.run_id for run_status in planned})
    notes = each(lambda run_id: damage(snapshot, run_id, verify=False), unplanned)
    return {run_id: note for run_id, note in zip(unplanned, notes, strict=True) if note}


def ids_by_spec(folder: StudyFolder) -> dict[RunSpec, str]:
    """The readable runs on disk by their spec: ids on disk are read, never computed again.

    If an unfinished run of an older schema was started again, the done one counts for both.
    """
    snapshot = take_snapshot(folder)
    ordered = sorted(snapshot.run_ids(), key=snapshot.is_done)
    specs = each(lambda run_id: _spec(snapshot, run_id), ordered)
    return {spec: run_id for spec, run_id in zip(specs, ordered, strict=True) if spec is not None}


def _spec(snapshot: StudySnapshot, run_id: str) -> RunSpec | None:
    """The specification of a run; None if it cannot be read."""
    try:
        return snapshot.run(run_id)
    except (UserError, ValidationError):
        return None


def _state(snapshot: StudySnapshot, run_id: str) -> State:
    if run_id not in snapshot.files:
        return "pending"
    if snapshot.is_done(run_id):
        return "diverged" if snapshot.done(run_id)["status"] == "diverged" else "done"
    if snapshot.is_locked(run_id):
        return "running"
    return "partial" if CHECKPOINT in snapshot.files[run_id] else "pending"


def last_rows(
    folder: StudyFolder, study: StudySpec, *, verify: bool = False
) -> tuple[tuple[RunStatus, Row | None], ...]:
    """Every planned run with ``step``, ``loss`` and ``error`` (a fraction) of its last measurement, None before one.

    A run with damaged curves gets the state damaged. ``verify`` reads every file, including the weights.
    """
    snapshot = take_snapshot(folder)
    statuses = run_statuses(snapshot, study, verify=verify, weights=verify)
    return tuple(each(lambda run_status: _with_last_row(snapshot, run_status), statuses))


def _with_last_row(snapshot: StudySnapshot, run_status: RunStatus) -> tuple[RunStatus, Row | None]:
    try:
        if run_status.state in ENDED:
            return run_status, _last(_curves(snapshot, run_status.run_id))
    except DamagedError as error:
        return replace(run_status, state="damaged", note=str(error)), None
    if run_status.state in ("running", "partial"):
        return run_status, _last(_checkpoint_rows(snapshot, run_status.run_id))
    return run_status, None


def _checkpoint_rows(folder: StudyFolder, run_id: str) -> list[Row]:
    """The rows of the curves in a run's checkpoint; none without a readable checkpoint: the run starts again."""
    from safetensors.numpy import load  # reads the rows without torch

    try:
        if not (data := folder.checkpoint(run_id)):
            return []
        check_tensors(data)
    except DamagedError:
        return []
    return list(json.loads(load(data)["rows"].tobytes()))


def _curves(folder: StudyFolder, run_id: str) -> list[Row]:
    from degradation.frames.parquet import read_table  # without pandas, which takes long to import

    data = folder.file(run_id, frame_file("curves"))
    return list(read_table(data, ("step", "split", "statistics", "loss", "error")).to_pylist())


def _last(rows: list[Row]) -> Row | None:
    for kind in PREFERRED:
        if matching := [row for row in rows if (row["split"], row["statistics"]) == kind]:
            return {name: matching[-1][name] for name in ("step", "loss", "error")}
    return None


@dataclass(frozen=True, kw_only=True)
class FinalError:
    """Mean over ``seeds`` finished runs of the clean training error at the last step, a fraction."""

    network: str
    shortcut: str
    depth: int
    statistics: str
    error: float
    seeds: int
    arm: str = ""


def final_errors(folder: StudyFolder, study: StudySpec) -> tuple[FinalError, ...]:
    """The final clean training errors of a study, by arm, depth, network and batch-norm statistics."""
    snapshot = take_snapshot(folder)
    groups: dict[tuple[str, int, str, str, str], list[float]] = {}
    done = [run_status for run_status in run_statuses(snapshot, study) if run_status.state == "done"]
    for run_status, rows in zip(done, each(lambda run_status: _final_rows(snapshot, run_status), done), strict=True):
        spec = run_status.spec
        for row in rows:
            key = (run_status.arm, spec.depth, spec.network, spec.shortcut, row["statistics"])
            groups.setdefault(key, []).append(row["error"])
    return tuple(
        FinalError(
            network=network,
            shortcut=shortcut,
            depth=depth,
            statistics=statistics,
            error=sum(errors) / len(errors),
            seeds=len(errors),
            arm=arm,
        )
        for (arm, depth, network, shortcut, statistics), errors in groups.items()
    )


def _final_rows(snapshot: StudySnapshot, run_status: RunStatus) -> list[Row]:
    """The last clean training errors of a run; none of a damaged run, which is reported elsewhere."""
    try:
        rows = _curves(snapshot, run_status.run_id)
    except DamagedError:
        return []
    return [row for row in rows if row["split"] == "train" and row["step"] == run_status.spec.recipe.steps]
