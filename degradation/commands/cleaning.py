"""A study folder -> what can be deleted from it, with its size and what is lost, and its deletion."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from degradation.errors import UseError
from degradation.frames import EXPERIMENTS
from degradation.refusals import suggestion
from degradation.standing import damage, is_running
from degradation.store import CHECKPOINT, DAMAGED, LOCK, WEIGHTS, ExperimentFolder, StudyFolder


@dataclass(frozen=True, kw_only=True)
class Item:
    """Something that can be deleted: its name, why, its size in bytes, and how."""

    name: str
    what: str
    size: int
    remove: Callable[[], None]


def leftovers(folder: StudyFolder) -> tuple[Item, ...]:
    """Damaged runs, checkpoints, unfinished or outdated experiments, temporary files, empty run folders.

    Of runs that no process works on.
    """
    items: list[Item] = []
    for run_id in folder.store.list(folder.name):
        if folder.run_path(run_id).is_dir() and not _busy(folder, run_id):
            items += _of_run(folder, run_id)
    for name in EXPERIMENTS:
        items += _of_experiment(folder, folder.experiment(name))
    return (*items, *_temporary(folder, ""))


def _of_experiment(folder: StudyFolder, place: ExperimentFolder) -> Iterator[Item]:
    """What was begun and not ended, is damaged, or was measured with weights that are there no more."""
    for run_id in place.store.list(place.name):
        if _busy(place, run_id):
            continue
        what = _unfit(folder, place, run_id)
        if what:
            yield replace(_whole_run(place, run_id, what), name=f"{place.name} {run_id}")
        else:
            yield from _temporary(place, run_id)


def _unfit(folder: StudyFolder, place: ExperimentFolder, run_id: str) -> str:
    """Why what an experiment left of a run can go; empty where it is whole and the run's."""
    try:
        if not place.is_done(run_id):
            return "experiment not ended: starts again at its first part"
        place.verify(run_id)
        measured = place.spec(run_id)["weights"]
    except (UseError, KeyError):
        return "damaged experiment; it will be measured again"
    gone = not folder.is_done(run_id) or folder.done(run_id)["files"].get(WEIGHTS) != measured
    return "experiment on weights that are there no more" if gone else ""


def _of_run(folder: StudyFolder, run_id: str) -> tuple[Item, ...]:
    if _is_empty(folder, run_id) or damage(folder, run_id):
        what = "empty folder of a run" if _is_empty(folder, run_id) else "damaged run; it will be trained again"
        return (_whole_run(folder, run_id, what),)
    return (*_checkpoints(folder, run_id), *_temporary(folder, run_id))


def _is_empty(folder: StudyFolder, run_id: str) -> bool:
    return [file.name for file in folder.run_path(run_id).iterdir()] == [LOCK]


def _busy(folder: StudyFolder, run_id: str) -> bool:
    return (folder.run_path(run_id) / LOCK).exists() and is_running(folder, run_id)


def _checkpoints(folder: StudyFolder, run_id: str) -> tuple[Item, ...]:
    ended = folder.is_done(run_id)
    lost = "checkpoint that a done run left" if ended else "checkpoint: starts again at step 0"
    found = {CHECKPOINT: lost, DAMAGED: "damaged checkpoint that was set aside"}
    names = {file: f"{folder.name}/{run_id}/{file}" for file in found}
    return tuple(
        Item(
            name=run_id,
            what=found[file],
            size=folder.store.size(name),
            remove=partial(folder.store.remove, name),
        )
        for file, name in names.items()
        if folder.store.exists(name)
    )


def _temporary(folder: StudyFolder, run_id: str) -> tuple[Item, ...]:
    here = folder.path / run_id
    return tuple(
        Item(
            name=run_id or folder.name,
            what="file half written when its process was killed",
            size=file.stat().st_size,
            remove=partial(file.unlink, missing_ok=True),
        )
        for file in folder.leftovers()
        if file.parent == here
    )


def _whole_run(folder: StudyFolder, run_id: str, what: str) -> Item:
    size = folder.store.size(f"{folder.name}/{run_id}")
    return Item(name=run_id, what=what, size=size, remove=partial(folder.remove_run, run_id))


def one_run(folder: StudyFolder, run_id: str) -> tuple[Item, ...]:
    """One run with all it holds. UseError where there is none, or while a process works on it."""
    known = folder.run_ids()
    if run_id not in known:
        raise UseError(f"--run: no run {run_id!r} in {folder.path}: {len(known)} are there{suggestion(run_id, known)}")
    if _busy(folder, run_id):
        raise UseError(f"--run: {run_id} is being trained by another process: stop that first")
    return (_whole_run(folder, run_id, "the whole run; it will be trained again"),)


def whole_study(folder: StudyFolder) -> tuple[Item, ...]:
    """The study with everything in its folder. UseError while a process works on one of its runs."""
    if busy := [run_id for run_id in folder.run_ids() if _busy(folder, run_id)]:
        raise UseError(f"--all: {busy[0]} is being trained by another process: stop that first")
    size = folder.store.size(folder.name)
    what = f"the whole study: {len(folder.run_ids())} runs, figures and all"
    return (Item(name=str(folder.path), what=what, size=size, remove=partial(folder.store.remove, folder.name)),)
