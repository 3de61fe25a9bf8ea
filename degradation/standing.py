"""A study folder -> how each planned run stands, its last row, and the final training errors. No torch."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import ValidationError

from degradation import plan
from degradation.errors import UseError
from degradation.spec import RunSpec, StudySpec, upgrade
from degradation.store import StudyFolder, frame_file

State = Literal["done", "diverged", "running", "partial", "pending", "damaged"]
STATES: tuple[State, ...] = ("done", "diverged", "running", "partial", "pending", "damaged")
ENDED: tuple[State, ...] = ("done", "diverged")

# The row that stands for a run: the clean training error if there is one, else that of training batches.
PREFERRED = (("train", "running"), ("train", "batch"), ("train_running", "batch"))


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One planned run, its arm and its state; ``note`` says what is damaged."""

    spec: RunSpec
    run_id: str
    state: State
    note: str = ""
    arm: str = ""


def standings(folder: StudyFolder, study: StudySpec, *, verify: bool = False) -> tuple[Standing, ...]:
    """Every planned run in the plan's order; ``verify`` reads each done run against its hashes."""
    folder = folder.listed()
    found = known(folder)
    planned = plan.arms(study).items()
    return tuple(
        replace(_standing(folder, spec, found.get(spec, spec.run_id), verify), arm=arm) for spec, arm in planned
    )


def known(folder: StudyFolder) -> dict[RunSpec, str]:
    """The readable runs on disk by their spec: ids on disk are read, never computed again.

    Where an unfinished run of an older schema was begun anew, the done one stands for both.
    """
    folder, found = folder.listed(), {}
    for run_id in sorted(folder.run_ids(), key=folder.is_done):
        try:
            found[upgrade(folder.spec(run_id))] = run_id
        except (UseError, ValidationError):
            continue  # damaged: it stands under the id that its folder bears
    return found


def _standing(folder: StudyFolder, spec: RunSpec, run_id: str, verify: bool) -> Standing:
    note = damage(folder, run_id, verify=verify)
    state: State = "damaged" if note else _state(folder, run_id)
    return Standing(spec=spec, run_id=run_id, state=state, note=note)


def damage(folder: StudyFolder, run_id: str, *, verify: bool = True) -> str:
    """What is wrong with a run on disk, in one line; empty where nothing is, or where there is no run."""
    if run_id not in folder.run_ids():
        return ""
    try:
        upgrade(folder.spec(run_id))
        if folder.is_done(run_id) and folder.done(run_id) and verify:
            folder.verify(run_id)
    except UseError as error:
        return str(error)
    except ValidationError:
        return f"{folder.run_path(run_id)} does not hold the description of a run"
    return ""


def _state(folder: StudyFolder, run_id: str) -> State:
    if folder.is_done(run_id):
        return "diverged" if folder.done(run_id)["status"] == "diverged" else "done"
    if is_running(folder, run_id):
        return "running"
    return "partial" if folder.has_checkpoint(run_id) else "pending"


def is_running(folder: StudyFolder, run_id: str) -> bool:
    """Whether another process holds the lock of this run."""
    return folder.is_locked(run_id)


def last_row(folder: StudyFolder, standing: Standing) -> dict[str, Any] | None:
    """``step``, ``loss`` and ``error`` (a fraction) of a run's last measurement; None before the first."""
    if standing.state in ENDED:
        return _last(_curves(folder, standing.run_id))
    if standing.state in ("running", "partial"):
        return _last(_checkpointed(folder, standing.run_id))
    return None


def _checkpointed(folder: StudyFolder, run_id: str) -> list[dict[str, Any]]:
    """The rows of the curves in a run's checkpoint; none where it has no readable one: the run starts anew."""
    from safetensors import SafetensorError
    from safetensors.numpy import load  # the checkpoint's rows are read without torch

    try:
        data = folder.checkpoint(run_id)
        return list(json.loads(load(data)["rows"].tobytes())) if data else []
    except (SafetensorError, ValueError, KeyError, TypeError):
        return []


def _curves(folder: StudyFolder, run_id: str) -> list[dict[str, Any]]:
    from degradation.parquet import read_table  # not pandas, which takes longer to import than all the rest

    try:
        data = folder.file(run_id, frame_file("curves"))
    except FileNotFoundError:
        return []
    return list(read_table(data).to_pylist())


def _last(rows: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    rows = list(rows)
    for wanted in PREFERRED:
        if chosen := [row for row in rows if (row["split"], row["statistics"]) == wanted]:
            return {name: chosen[-1][name] for name in ("step", "loss", "error")}
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
    groups: dict[tuple[str, int, str, str, str], list[float]] = {}
    for standing in standings(folder, study, verify=True):  # a damaged run is left out, and named elsewhere
        if standing.state == "done":
            spec = standing.spec
            for row in _final_rows(folder, standing.run_id, spec.recipe.steps):
                key = (standing.arm, spec.depth, spec.network, spec.shortcut, row["statistics"])
                groups.setdefault(key, []).append(row["error"])
    return tuple(_final_error(*key, errors) for key, errors in groups.items())


def _final_rows(folder: StudyFolder, run_id: str, steps: int) -> list[dict[str, Any]]:
    return [row for row in _curves(folder, run_id) if row["split"] == "train" and row["step"] == steps]


def _final_error(arm: str, depth: int, network: str, shortcut: str, statistics: str, errors: list[float]) -> FinalError:
    return FinalError(
        network=network,
        shortcut=shortcut,
        depth=depth,
        statistics=statistics,
        error=sum(errors) / len(errors),
        seeds=len(errors),
        arm=arm,
    )
