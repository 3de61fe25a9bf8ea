"""A study folder -> what its runs hold: listed once, read by several threads, each file hashed at most once."""

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

Given = TypeVar("Given")
Made = TypeVar("Made")

THREADS = 8
"""Reads at a time: hashing and arrow let go of Python's lock, and the answers of a far store overlap."""
HEAVY = ".safetensors"
"""Suffix of weights, most of a study's bytes: they are hashed when read, or on request."""


class Misplaced(DamagedError):
    """A folder that has another name than the run in it: a copy, or one that was renamed or exchanged."""


class StudySnapshot(StudyFolder):
    """A study folder as it was when it was looked at, for those who read many runs.

    The runs and the names of their files come from one listing. What a done run says in JSON is read once, and none
    of its files is hashed twice: a done folder is never written again. A run that is not done is read again each time.
    """

    def __init__(self, folder: StudyFolder, files: Mapping[str, frozenset[str]] | None = None) -> None:
        self.store, self.name, self._folder = folder.store, folder.name, folder
        self._documents: dict[tuple[str, str], dict[str, Any]] = {}
        self._verified: set[tuple[str, str]] = set()
        self._experiments: dict[str, StudySnapshot] = {}
        self.damaged: dict[str, str] = {}
        """Done runs of which something read was not what was written, and what."""
        self.files = self.store.tree(self.name) if files is None else files

    def look_again(self) -> None:
        """List the study again, after something was written. What is known of done runs stays."""
        self.files = self.store.tree(self.name)
        self._experiments.clear()

    def run_ids(self) -> tuple[str, ...]:
        return tuple(run_id for run_id, files in self.files.items() if files & {SPEC, DONE})

    def ended(self) -> tuple[str, ...]:
        """The runs that are done, sorted."""
        return tuple(filter(self.is_done, self.files))

    def is_done(self, run_id: str) -> bool:
        """Also of a run whose done.json was lost: what was written just before it is there, and no sign of a commit."""
        files = self.files.get(run_id, frozenset())
        return DONE in files or (FACTS in files and not files & {CHECKPOINT, PARTS})

    def run(self, run_id: str) -> RunSpec:
        """The specification of a run on disk. DamagedError if it is not that of the run whose name the folder has.

        An id is a hash of the fields of its schema: of one that an older schema made the readable part is compared.
        """
        fields = self.spec(run_id)
        run = upgrade(fields)
        older = fields.get("schema_number") != SCHEMA and RUN_ID.fullmatch(run_id) is not None
        there, own = (name.rpartition("-")[0] if older else name for name in (run_id, run.run_id))
        if there != own:
            raise Misplaced(
                f"{self.run_path(run_id)} holds the run {run.run_id}: give it that name again, or move it elsewhere"
            )
        return run

    def is_empty(self, run_id: str) -> bool:
        """Whether nothing but its lock is left in a run's folder."""
        return bool(self.files[run_id]) and all(file.startswith((LOCK, LEASE)) for file in self.files[run_id])

    def is_locked(self, run_id: str) -> bool:
        """Asked of the store only where the listing shows a lock, which its holder may have left."""
        locked = any(file.startswith((LOCK, LEASE)) for file in self.files.get(run_id, ()))
        return locked and super().is_locked(run_id)

    def done(self, run_id: str) -> dict[str, Any]:
        return self._once(run_id, DONE, super().done)

    def has_digest(self, run_id: str) -> bool:
        """Whether a run's done.json holds a digest of itself; earlier versions wrote none."""
        return is_sealed(self.store.read(self._file(run_id, DONE)))

    def facts(self, run_id: str) -> dict[str, Any]:
        return self._once(run_id, FACTS, super().facts)

    def spec(self, run_id: str) -> dict[str, Any]:
        if not self.is_done(run_id):
            return super().spec(run_id)
        return self._once(run_id, SPEC, super().spec)

    def _once(self, run_id: str, file: str, read: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
        if (run_id, file) not in self._documents:
            self._documents[run_id, file] = self._noted(run_id, read)
        return self._documents[run_id, file]

    def _noted(self, run_id: str, read: Callable[[str], Made]) -> Made:
        """What was read of a run; one that is damaged is remembered. Raises DamagedRun."""
        try:
            return read(run_id)
        except DamagedError as error:
            self.damaged.setdefault(run_id, str(error))
            raise DamagedRun(str(error)) from error

    def file(self, run_id: str, file: str) -> bytes:
        if (run_id, file) in self._verified:
            return self.store.read(self._file(run_id, file))
        data = self._noted(run_id, lambda run_id: super(StudySnapshot, self).file(run_id, file))
        self._verified.add((run_id, file))
        return data

    def require(self, run_id: str, run: RunSpec) -> None:
        """DamagedRun if a done run does not list a file that such runs have: its rows would silently be missed."""
        wanted = [FACTS, *map(frame_file, ("curves", *run.measure.probes))]
        listed = self.done(run_id)["files"]
        if lost := next((file for file in wanted if file not in listed), None):
            raise DamagedRun(f"{self.run_path(run_id) / DONE} does not list {lost}: {self.restore(run_id)}")

    def verify(self, run_id: str, *, weights: bool = True, frames: bool = True) -> None:
        """A done run against its hashes, but for what was compared before; DamagedError names the first that differs.

        Without ``weights``, or without them and all else, these files must only be there.
        """
        for file in self.done(run_id)["files"]:
            asked = weights if file.endswith(HEAVY) else frames
            if file not in self.files[run_id] or (asked and (run_id, file) not in self._verified):
                self.file(run_id, file)

    def sweep(self) -> None:
        """Delete what processes that were killed left in folders of done runs: half-written files, locks, leases.

        No process locks a done run to write: training checks for done.json once it holds the lock.
        """
        for run_id in self.ended():
            for file in self.files[run_id]:
                if file.startswith((WRITING, LOCK, LEASE)):
                    self.store.remove(self._file(run_id, file))

    def of_experiment(self, name: str) -> "StudySnapshot":
        """The snapshot of one experiment on this study's runs; one that was never run is not listed."""
        if name not in self._experiments:
            there = name in self.files.get(EXPERIMENTS_FOLDER, ())
            self._experiments[name] = StudySnapshot(self._folder.experiment(name), None if there else {})
        return self._experiments[name]

    def remedy(self, run_id: str) -> str:
        return self._folder.remedy(run_id)


def take_snapshot(folder: StudyFolder) -> StudySnapshot:
    """The snapshot of a study; a snapshot is returned unchanged.""" ""
    return folder if isinstance(folder, StudySnapshot) else StudySnapshot(folder)


def damage(folder: StudyFolder, run_id: str, *, verify: bool = True, weights: bool = False) -> str:
    """What is wrong with a run on disk, in one line; empty if nothing is, or where there is no run.

    A done run must have all of its files; ``verify``: as they were written, but for its ``weights`` where not asked.
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


def damaged_experiments(folder: StudyFolder, names: Iterable[str]) -> dict[str, str]:
    """``lesion/RUN_ID`` -> what is damaged of an experiment that ended, of those named; every file of them is read."""
    snapshot = take_snapshot(folder)
    ended = [(place, run_id) for place in map(snapshot.of_experiment, names) for run_id in place.ended()]
    notes = each(lambda item: item[0].damage(item[1]), ended)
    return {f"{place.name}/{run_id}": why for (place, run_id), why in zip(ended, notes, strict=True) if why}


def each(work: Callable[[Given], Made], items: Iterable[Given]) -> list[Made]:
    """``work`` on every item, several at a time, in order; what it raises for the first of them that fails."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, items))
