"""A study folder -> the content of its runs: listed once, read by several threads, each file hashed at most once."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from pydantic import ValidationError

from degradation.errors import DamagedError, DamagedRun, UserError
from degradation.spec import SCHEMA, RunSpec, upgrade
from degradation.store import (
    CHECKPOINT,
    DONE,
    EXPERIMENTS_FOLDER,
    FACTS,
    LEASE,
    LOCK,
    PARTS,
    RUN_ID,
    SPEC,
    WRITING,
    StudyFolder,
    frame_file,
    is_sealed,
)

T = TypeVar("T")
Result = TypeVar("Result")

THREADS = 8
"""Reads at a time: hashing and arrow release Python's lock, and waiting times for a remote store overlap."""
HEAVY = ".safetensors"
"""Suffix of weights, most of a study's bytes: they are hashed when read, or on request."""


class Misplaced(DamagedError):
    """A folder whose name is not the id of the run in it: a copied or renamed folder."""


class StudySnapshot(StudyFolder):
    """A study folder at one point in time, for reading many runs.

    The runs and the names of their files come from one listing. The JSON files of a done run are read once, and none
    of its files is hashed twice: a done folder is never written again. A run that is not done is read each time.
    """

    def __init__(self, folder: StudyFolder, files: Mapping[str, frozenset[str]] | None = None) -> None:
        self.store, self.name, self._folder = folder.store, folder.name, folder
        self._documents: dict[tuple[str, str], dict[str, Any]] = {}
        self._verified: set[tuple[str, str]] = set()
        self._experiments: dict[str, StudySnapshot] = {}
        self.damaged: dict[str, str] = {}
        """Done runs with a damaged file -> the damage."""
        self.files = self.store.tree(self.name) if files is None else files

    def look_again(self) -> None:
        """List the study again, after something was written. The cached content of done runs stays."""
        self.files = self.store.tree(self.name)
        self._experiments.clear()

    def run_ids(self) -> tuple[str, ...]:
        return tuple(run_id for run_id, files in self.files.items() if files & {SPEC, DONE})

    def ended(self) -> tuple[str, ...]:
        """The runs that are done, sorted."""
        return tuple(filter(self.is_done, self.files))

    def is_done(self, run_id: str) -> bool:
        """Whether a run is done, also without its done.json: then facts.json exists, and no commit is under way."""
        files = self.files.get(run_id, frozenset())
        return DONE in files or (FACTS in files and not files & {CHECKPOINT, PARTS})

    def run(self, run_id: str) -> RunSpec:
        """The specification of a run on disk. DamagedError if its id is not the name of the folder.

        An id ends in a hash of the fields of its schema: for an older schema only the readable part is compared.
        """
        fields = self.spec(run_id)
        run = upgrade(fields)
        older = fields.get("schema_number") != SCHEMA and RUN_ID.fullmatch(run_id) is not None
        folder_name, own_name = (name.rpartition("-")[0] if older else name for name in (run_id, run.run_id))
        if folder_name != own_name:
            raise Misplaced(
                f"{self.run_path(run_id)} holds the run {run.run_id}: give it that name again, or move it elsewhere"
            )
        return run

    def is_empty(self, run_id: str) -> bool:
        """Whether a run's folder contains only its lock."""
        return bool(self.files[run_id]) and all(file.startswith((LOCK, LEASE)) for file in self.files[run_id])

    def is_locked(self, run_id: str) -> bool:
        """Whether any process holds the lock; the store is asked only if the listing shows a lock."""
        locked = any(file.startswith((LOCK, LEASE)) for file in self.files.get(run_id, ()))
        return locked and super().is_locked(run_id)

    def done(self, run_id: str) -> dict[str, Any]:
        return self._once(run_id, DONE, super().done)

    def has_digest(self, run_id: str) -> bool:
        """Whether a run's done.json contains its own digest; earlier versions wrote none."""
        return is_sealed(self.store.read(self._file(run_id, DONE)))

    def facts(self, run_id: str) -> dict[str, Any]:
        return self._once(run_id, FACTS, super().facts)

    def spec(self, run_id: str) -> dict[str, Any]:
        if not self.is_done(run_id):
            return super().spec(run_id)
        return self._once(run_id, SPEC, super().spec)

    def _once(self, run_id: str, file: str, read: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
        """The content of a JSON file of a run, which is read only once."""
        if (run_id, file) not in self._documents:
            self._documents[run_id, file] = self._note_damage(run_id, read)
        return self._documents[run_id, file]

    def _note_damage(self, run_id: str, read: Callable[[str], Result]) -> Result:
        """The result of ``read``; the damage of a damaged run is stored. Raises DamagedRun."""
        try:
            return read(run_id)
        except DamagedError as error:
            self.damaged.setdefault(run_id, str(error))
            raise DamagedRun(str(error)) from error

    def file(self, run_id: str, file: str) -> bytes:
        if (run_id, file) in self._verified:
            return self.store.read(self._file(run_id, file))
        data = self._note_damage(run_id, lambda run_id: super(StudySnapshot, self).file(run_id, file))
        self._verified.add((run_id, file))
        return data

    def require(self, run_id: str, run: RunSpec) -> None:
        """DamagedRun if a done run does not list a file that it must have: its rows would be missing silently."""
        required = [FACTS, *map(frame_file, ("curves", *run.measure.probes))]
        listed = self.done(run_id)["files"]
        if missing := [file for file in required if file not in listed]:
            raise DamagedRun(f"{self.run_path(run_id) / DONE} does not list {missing[0]}: {self.restore(run_id)}")

    def verify(self, run_id: str, *, weights: bool = True, frames: bool = True) -> None:
        """Check the files of a done run against their hashes, once each; DamagedError names the first that differs.

        Without ``weights``, or without ``frames`` (all other files), these files must only exist.
        """
        for file in self.done(run_id)["files"]:
            read = weights if file.endswith(HEAVY) else frames
            if file not in self.files[run_id] or (read and (run_id, file) not in self._verified):
                self.file(run_id, file)

    def sweep(self) -> None:
        """Delete files that killed processes left in folders of done runs: half-written files, locks, leases.

        No process locks a done run to write: training checks for done.json as soon as it holds the lock.
        """
        for run_id in self.ended():
            for file in self.files[run_id]:
                if file.startswith((WRITING, LOCK, LEASE)):
                    self.store.remove(self._file(run_id, file))

    def of_experiment(self, name: str) -> "StudySnapshot":
        """The snapshot of one experiment on this study's runs; without a listing if it was never run."""
        if name not in self._experiments:
            exists = name in self.files.get(EXPERIMENTS_FOLDER, ())
            self._experiments[name] = StudySnapshot(self._folder.experiment(name), None if exists else {})
        return self._experiments[name]

    def remedy(self, run_id: str) -> str:
        return self._folder.remedy(run_id)


def take_snapshot(folder: StudyFolder) -> StudySnapshot:
    """The snapshot of a study; a snapshot is returned unchanged."""
    return folder if isinstance(folder, StudySnapshot) else StudySnapshot(folder)


def damage(folder: StudyFolder, run_id: str, *, verify: bool = True, weights: bool = False) -> str:
    """The damage of a run on disk in one line; empty if there is none, or no such run.

    A done run must have all of its files; ``verify`` compares them with their hashes, weights only with ``weights``.
    """
    snapshot = take_snapshot(folder)
    if run_id in snapshot.damaged:
        return snapshot.damaged[run_id]
    if run_id not in snapshot.run_ids():
        return ""
    try:
        run = snapshot.run(run_id)
        if snapshot.is_done(run_id):
            snapshot.require(run_id, run)
            snapshot.verify(run_id, frames=verify, weights=weights)
    except UserError as error:
        return str(error)
    except ValidationError:
        return f"{folder.run_path(run_id)} does not hold the description of a run"
    return ""


def damaged_runs(snapshot: StudySnapshot) -> dict[str, str]:
    """The done runs with a damaged file -> the damage.

    All files but the weights are read. Weights, most of a study's bytes, are checked when they are used.
    """
    notes = each(lambda run_id: damage(snapshot, run_id), snapshot.ended())
    return {run_id: note for run_id, note in zip(snapshot.ended(), notes, strict=True) if note}


def damaged_experiments(folder: StudyFolder, names: Iterable[str]) -> dict[str, str]:
    """``lesion/RUN_ID`` -> the damage of a finished experiment, for these experiments; every file is read."""
    snapshot = take_snapshot(folder)
    ended = [(experiment, run_id) for experiment in map(snapshot.of_experiment, names) for run_id in experiment.ended()]
    notes = each(lambda item: item[0].damage(item[1]), ended)
    return {
        f"{experiment.name}/{run_id}": note for (experiment, run_id), note in zip(ended, notes, strict=True) if note
    }


def each(function: Callable[[T], Result], items: Iterable[T]) -> list[Result]:
    """The results of the function for every item, in order, several at a time; the first error is raised."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(function, items))
