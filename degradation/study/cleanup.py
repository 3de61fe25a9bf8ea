"""A study folder -> items that can be deleted, with their sizes and the consequences."""

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
    """An item that can be deleted: its name, what it is, its size in bytes, and the function that deletes it."""

    name: str
    what: str
    size: int
    remove: Callable[[], None]


def leftovers(folder: StudyFolder) -> tuple[Item, ...]:
    """Damaged runs, checkpoints, unfinished or outdated experiments, temporary files, empty run folders, logs.

    Runs that a process is working on are left out.
    """
    snapshot, half_written = StudySnapshot(folder), folder.leftovers()
    free = [run_id for run_id in snapshot.files if not snapshot.is_locked(run_id)]
    notes = each(lambda run_id: damage(snapshot, run_id, weights=True), free)
    items: list[Item] = []
    for run_id, note in zip(free, notes, strict=True):
        if snapshot.is_empty(run_id):
            items.append(_whole_run(folder, run_id, "empty folder of a run"))
        elif note:
            items.append(_whole_run(folder, run_id, _what_is_damaged(snapshot, run_id)))
        else:
            items += [*_checkpoints(snapshot, run_id), *_temporary(folder, run_id, half_written)]
    for name in EXPERIMENTS:
        items += _of_experiment(snapshot, snapshot.of_experiment(name))
    items += _temporary(folder, "", half_written)
    return (*items, *_logs(folder, [run_id for run_id in run_logs.logged(folder) if not snapshot.is_locked(run_id)]))


def _what_is_damaged(snapshot: StudySnapshot, run_id: str) -> str:
    """What a damaged run is: in the folder of another run, or damaged otherwise."""
    try:
        snapshot.run(run_id)
    except Misplaced as error:
        return str(error).removeprefix(f"{snapshot.run_path(run_id)} ")
    except (UserError, ValidationError):
        pass
    return "damaged run; it will be trained again"


def _of_experiment(folder: StudySnapshot, experiment: StudySnapshot) -> Iterator[Item]:
    """Runs of an experiment that are unfinished, damaged, or of weights that no longer exist."""
    half_written = experiment.leftovers() if experiment.files else ()
    for run_id in experiment.files:
        if experiment.is_locked(run_id):
            continue
        if what := _unusable(folder, experiment, run_id):
            yield replace(_whole_run(experiment, run_id, what), name=f"{experiment.name} {run_id}")
        else:
            yield from _temporary(experiment, run_id, half_written)


def _unusable(folder: StudySnapshot, experiment: StudySnapshot, run_id: str) -> str:
    """Why an experiment's files of a run can be deleted; empty if they are complete and belong to the run."""
    try:
        if not experiment.is_done(run_id):
            return "unfinished experiment: it starts again at its first part"
        experiment.verify(run_id)
        measured = experiment.spec(run_id)["weights"]
    except (UserError, KeyError):
        return "damaged experiment; it will be measured again"
    outdated = not folder.is_done(run_id) or folder.weights(run_id) != measured
    return "experiment on weights that no longer exist" if outdated else ""


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


def _path(folder: StudyFolder, name: str, what: str, path: str) -> Item:
    """A file or folder of the store as an item."""
    return Item(name=name, what=what, size=folder.store.size(path), remove=partial(folder.store.remove, path))


def _checkpoints(folder: StudySnapshot, run_id: str) -> Iterator[Item]:
    done = folder.is_done(run_id)
    what = "old checkpoint of a done run" if done else "checkpoint: without it the run starts again at step 0"
    for file, description in {CHECKPOINT: what, DAMAGED: "damaged checkpoint that was renamed"}.items():
        if file in folder.files[run_id]:
            yield _path(folder, run_id, description, f"{folder.name}/{run_id}/{file}")


def _temporary(folder: StudyFolder, run_id: str, half_written: Sequence[str]) -> Iterator[Item]:
    """The incomplete files in the folder of a run, or of the study for an empty ``run_id``."""
    for file in half_written:
        if file.rpartition("/")[0] == run_id:
            what = "incomplete file of a killed process"
            yield _path(folder, run_id or folder.name, what, f"{folder.name}/{file}")


def _whole_run(folder: StudyFolder, run_id: str, what: str) -> Item:
    size = folder.store.size(f"{folder.name}/{run_id}")
    return Item(name=run_id, what=what, size=size, remove=partial(folder.remove_run, run_id))


def weights(folder: StudyFolder) -> tuple[Item, ...]:
    """The weights of done runs, final ones and snapshots, one item per run; frames stay."""
    snapshot = StudySnapshot(folder)
    free = [run_id for run_id in snapshot.ended() if not snapshot.is_locked(run_id)]
    heavy = {run_id: [file for file in snapshot.done(run_id)["files"] if file.endswith(HEAVY)] for run_id in free}
    return tuple(_weights(folder, run_id, files) for run_id, files in heavy.items() if files)


def _weights(folder: StudyFolder, run_id: str, files: Sequence[str]) -> Item:
    def remove() -> None:
        for file in files:
            folder.free(run_id, file)

    size = sum(folder.store.size(f"{folder.name}/{run_id}/{file}") for file in files)
    return Item(name=run_id, what="weights: experiments need them", size=size, remove=remove)


def one_run(folder: StudyFolder, run_id: str) -> tuple[Item, ...]:
    """One run with all its files. UserError if there is none, or while a process is working on it."""
    run_ids = folder.run_ids()
    if run_id not in run_ids:
        raise UserError(f"--run: no run {run_id!r} among {len(run_ids)} in {folder.path}{suggestion(run_id, run_ids)}")
    if folder.is_locked(run_id):
        raise UserError(f"--run: {run_id} is being trained by another process: stop that first")
    whole = _whole_run(folder, run_id, "the whole run; it will be trained again")
    return (whole, *_logs(folder, [run_id] if run_id in run_logs.logged(folder) else []))


def whole_study(folder: StudyFolder) -> tuple[Item, ...]:
    """The whole study folder. UserError while a process is working on one of its runs."""
    folder = take_snapshot(folder)
    if busy := [run_id for run_id in folder.run_ids() if folder.is_locked(run_id)]:
        raise UserError(f"--all: {busy[0]} is being trained by another process: stop that first")
    what = f"the whole study: {len(folder.run_ids())} runs, figures and reports"
    return (_path(folder, str(folder.path), what, folder.name),)
