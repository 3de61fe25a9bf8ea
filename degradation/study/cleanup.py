"""A study folder -> items that can be deleted, with their size and the consequences, and their deletion."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from pydantic import ValidationError

from degradation.errors import UserError
from degradation.spec.validation import suggestion
from degradation.store import CHECKPOINT, DAMAGED, EXPERIMENTS, LOGS, StudyFolder
from degradation.study import run_logs
from degradation.study.snapshot import HEAVY, Misplaced, StudySnapshot, damage, each, take_snapshot


@dataclass(frozen=True, kw_only=True)
class Item:
    """An item that can be deleted: its name, the reason, its size in bytes, and how."""

    name: str
    what: str
    size: int
    remove: Callable[[], None]


def leftovers(folder: StudyFolder) -> tuple[Item, ...]:
    """Damaged runs, checkpoints, unfinished or outdated experiments, temporary files, empty run folders, logs.

    Only of runs that no process is working on.
    """
    snapshot, half_written = StudySnapshot(folder), folder.leftovers()
    free = [run_id for run_id in snapshot.files if not snapshot.is_locked(run_id)]
    notes = each(lambda run_id: damage(snapshot, run_id, weights=True), free)
    items: list[Item] = []
    for run_id, note in zip(free, notes, strict=True):
        empty = snapshot.is_empty(run_id)
        if empty or note:
            items.append(_whole_run(folder, run_id, "empty folder of a run" if empty else _why(snapshot, run_id)))
        else:
            items += [*_checkpoints(snapshot, run_id), *_temporary(folder, run_id, half_written)]
    for name in EXPERIMENTS:
        items += _of_experiment(snapshot, snapshot.of_experiment(name))
    items += _temporary(folder, "", half_written)
    return (*items, *_logs(folder, [run_id for run_id in run_logs.logged(folder) if not snapshot.is_locked(run_id)]))


def _why(snapshot: StudySnapshot, run_id: str) -> str:
    try:
        snapshot.run(run_id)
    except Misplaced as error:
        return str(error).removeprefix(f"{snapshot.run_path(run_id)} ")
    except (UserError, ValidationError):
        pass
    return "damaged run; it will be trained again"


def _of_experiment(folder: StudySnapshot, place: StudySnapshot) -> Iterator[Item]:
    """Experiments that are unfinished, damaged, or of weights that no longer exist."""
    half_written = place.leftovers() if place.files else ()
    for run_id in place.files:
        if place.is_locked(run_id):
            continue
        what = _unfit(folder, place, run_id)
        if what:
            yield replace(_whole_run(place, run_id, what), name=f"{place.name} {run_id}")
        else:
            yield from _temporary(place, run_id, half_written)


def _unfit(folder: StudySnapshot, place: StudySnapshot, run_id: str) -> str:
    """Why an experiment's files of a run can be deleted; empty if they are complete and of the run."""
    try:
        if not place.is_done(run_id):
            return "unfinished experiment: it starts again at its first part"
        place.verify(run_id)
        measured = place.spec(run_id)["weights"]
    except (UserError, KeyError):
        return "damaged experiment; it will be measured again"
    gone = not folder.is_done(run_id) or folder.weights(run_id) != measured
    return "experiment on weights that no longer exist" if gone else ""


def _logs(folder: StudyFolder, run_ids: Sequence[str]) -> tuple[Item, ...]:
    """The worker logs of these runs, as one item."""
    if not run_ids:
        return ()

    def remove() -> None:
        for run_id in run_ids:
            run_logs.remove(folder, run_id)

    size = sum(run_logs.size(folder, run_id) for run_id in run_ids)
    what = f"logs of {len(run_ids)} run{'' if len(run_ids) == 1 else 's'}: output of their workers"
    return (Item(name=f"{folder.name}/{LOGS}", what=what, size=size, remove=remove),)


def _checkpoints(folder: StudySnapshot, run_id: str) -> tuple[Item, ...]:
    ended = folder.is_done(run_id)
    lost = "old checkpoint of a done run" if ended else "checkpoint: without it the run starts again at step 0"
    found = {CHECKPOINT: lost, DAMAGED: "damaged checkpoint that was renamed"}
    names = {file: f"{folder.name}/{run_id}/{file}" for file in found if file in folder.files[run_id]}
    return tuple(
        Item(name=run_id, what=found[file], size=folder.store.size(name), remove=partial(folder.store.remove, name))
        for file, name in names.items()
    )


def _temporary(folder: StudyFolder, run_id: str, half_written: Sequence[str]) -> tuple[Item, ...]:
    """The incomplete files in a run's folder, or in the study's own."""
    names = [f"{folder.name}/{file}" for file in half_written if file.rpartition("/")[0] == run_id]
    return tuple(
        Item(
            name=run_id or folder.name,
            what="incomplete file of a killed process",
            size=folder.store.size(name),
            remove=partial(folder.store.remove, name),
        )
        for name in names
    )


def _whole_run(folder: StudyFolder, run_id: str, what: str) -> Item:
    size = folder.store.size(f"{folder.name}/{run_id}")
    return Item(name=run_id, what=what, size=size, remove=partial(folder.remove_run, run_id))


def weights(folder: StudyFolder) -> tuple[Item, ...]:
    """The weights of done runs, final ones and snapshots, one item per run; frames stay."""
    snapshot = StudySnapshot(folder)
    free = [run_id for run_id in snapshot.ended() if not snapshot.is_locked(run_id)]
    held = {run_id: [file for file in snapshot.done(run_id)["files"] if file.endswith(HEAVY)] for run_id in free}
    return tuple(_weights(folder, run_id, files) for run_id, files in held.items() if files)


def _weights(folder: StudyFolder, run_id: str, held: Sequence[str]) -> Item:
    def remove() -> None:
        for file in held:
            folder.free(run_id, file)

    size = sum(folder.store.size(f"{folder.name}/{run_id}/{file}") for file in held)
    return Item(name=run_id, what="weights: experiments need them", size=size, remove=remove)


def one_run(folder: StudyFolder, run_id: str) -> tuple[Item, ...]:
    """One run with all its files. UserError if there is none, or while a process is working on it."""
    known = folder.run_ids()
    if run_id not in known:
        raise UserError(f"--run: no run {run_id!r} among {len(known)} in {folder.path}{suggestion(run_id, known)}")
    if folder.is_locked(run_id):
        raise UserError(f"--run: {run_id} is being trained by another process: stop that first")
    whole = _whole_run(folder, run_id, "the whole run; it will be trained again")
    return (whole, *_logs(folder, [run_id] if run_id in run_logs.logged(folder) else []))


def whole_study(folder: StudyFolder) -> tuple[Item, ...]:
    """The study with everything in its folder. UserError while a process is working on one of its runs."""
    folder = take_snapshot(folder)
    if busy := [run_id for run_id in folder.run_ids() if folder.is_locked(run_id)]:
        raise UserError(f"--all: {busy[0]} is being trained by another process: stop that first")
    size = folder.store.size(folder.name)
    what = f"the whole study: {len(folder.run_ids())} runs, figures and reports"
    return (Item(name=str(folder.path), what=what, size=size, remove=partial(folder.store.remove, folder.name)),)
