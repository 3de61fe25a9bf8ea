"""One study in a store: its spec, its runs with their files, and the commit of done runs."""

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from degradation.errors import DamagedError, UserError
from degradation.store.base import Store
from degradation.store.filenames import (
    CHECKPOINT,
    DAMAGED,
    DONE,
    EXPERIMENTS_FOLDER,
    FACTS,
    FIGURES,
    PARTS,
    SPEC,
    STUDY,
    WEIGHTS,
    WRITING,
    is_study_name,
)
from degradation.store.location import Place, as_place
from degradation.store.open import store_at
from degradation.store.seals import is_ending, is_entry, sealed, sha256, unsealed


class StudyFolder:
    """One study in a store: its spec, its runs and their files."""

    def __init__(self, root: str | Path, name: str) -> None:
        if not is_study_name(name):
            raise UserError(
                f"a study's name has letters, digits, '-', '_' and '.' only, not {name!r}: give it one with --name"
            )
        self.store: Store = store_at(root)
        self.name = name

    @property
    def path(self) -> Place:
        return self.store.root / self.name

    def figures_path(self) -> Place:
        """The folder of the study's figures."""
        return self.path / FIGURES

    def experiment(self, name: str) -> "ExperimentFolder":
        """The folder of one experiment on this study's runs."""
        return ExperimentFolder(self.path / EXPERIMENTS_FOLDER, name)

    def run_path(self, run_id: str) -> Place:
        return self.path / run_id

    # the study

    def study(self) -> dict[str, Any] | None:
        """The fields of the StudySpec on disk; None if there is no such study."""
        name = f"{self.name}/{STUDY}"
        data = self._read(name)
        return None if data is None else self._parsed(name, data)

    def write_study(self, fields: Mapping[str, Any]) -> None:
        self.store.write(f"{self.name}/{STUDY}", sealed(fields))

    def study_lock(self, timeout: float = 10) -> AbstractContextManager[bool]:
        """The lock to hold while study.json is read, extended and written."""
        return self.store.lock(self.name, timeout)

    def leftovers(self) -> tuple[str, ...]:
        """Temporary files of killed processes: their names in the study's folder."""
        return tuple(file for file in self.store.below(self.name) if file.split("/")[-1].startswith(WRITING))

    def remove_half_written(self, run_id: str) -> None:
        """Delete incomplete files of a killed process; only for the holder of the run's lock."""
        for file in self.store.below(f"{self.name}/{run_id}"):
            if file.startswith(WRITING):
                self.store.remove(self._file(run_id, file))

    # its runs

    def run_ids(self) -> tuple[str, ...]:
        """The runs on disk, done or not, sorted by name."""
        # A done run without spec.json counts: it is reported as damaged, not overwritten.
        return tuple(name for name, files in self.store.tree(self.name).items() if files & {SPEC, DONE})

    def spec(self, run_id: str) -> dict[str, Any]:
        """The fields of the RunSpec of a run on disk; those of a done run are verified."""
        name = self._file(run_id, SPEC)
        return self._parsed(name, self.file(run_id, SPEC) if self.is_done(run_id) else self._required(name))

    def write_spec(self, run_id: str, fields: Mapping[str, Any]) -> None:
        self.store.write(self._file(run_id, SPEC), sealed(fields))

    def lock(self, run_id: str) -> AbstractContextManager[bool]:
        """The lock of the process that trains this run; yields False if another process holds it."""
        return self.store.lock(f"{self.name}/{run_id}")

    def is_locked(self, run_id: str) -> bool:
        """Whether any process is training this run."""
        return self.store.is_locked(f"{self.name}/{run_id}")

    def is_done(self, run_id: str) -> bool:
        return self.store.exists(self._file(run_id, DONE))

    def done(self, run_id: str) -> dict[str, Any]:
        """``status`` (finished or diverged), ``files``: name -> SHA-256, and the same of deleted files, ``freed``.

        DamagedError if it is anything else, or does not list spec.json.
        """
        name, remedy = self._file(run_id, DONE), self.restore(run_id)
        done = self._parsed(name, self._required(name, remedy), remedy)
        if not is_ending(done):
            raise DamagedError(f"{self.store.place(name)} does not hold how the run ended: {remedy}")
        if SPEC not in done["files"]:
            raise DamagedError(f"{self.store.place(name)} does not list {SPEC}: {remedy}")
        return done

    def commit(self, run_id: str, status: str, files: Mapping[str, bytes], parts: Collection[str] = ()) -> None:
        """Write the files of a run that ended, then done.json, then delete the checkpoint and ``parts``.

        DamagedError, and no done.json, if spec.json or a file kept during the run is missing or damaged.
        """
        all_kept = self._kept_hashes(run_id)
        hashes = {file: expected for file, expected in all_kept.items() if file not in parts}
        for file, expected in hashes.items():
            if sha256(self._read(self._file(run_id, file)) or b"") != expected:
                place = self.store.place(self._file(run_id, file))
                raise DamagedError(f"{place} was changed or deleted during the run: {self.remedy(run_id)}")
        on_disk = {*self.store.list(f"{self.name}/{run_id}")}
        if not on_disk & {CHECKPOINT, PARTS}:  # without them it would look like a done run that lost its done.json
            self.store.write(self._file(run_id, PARTS), sealed(all_kept))
            on_disk.add(PARTS)
        for file, data in files.items():
            self.store.write(self._file(run_id, file), data)
            hashes[file] = sha256(data)
        if SPEC not in hashes:
            hashes[SPEC] = sha256(self._required(self._file(run_id, SPEC)))
        self.store.write(self._file(run_id, DONE), sealed({"status": status, "files": dict(sorted(hashes.items()))}))
        for file in (CHECKPOINT, DAMAGED, PARTS, *parts):
            if file in on_disk:
                self.store.remove(self._file(run_id, file))

    def keep(self, run_id: str, file: str, data: bytes) -> None:
        """Write a file of a run that is not done yet, and its SHA-256; ``commit`` takes it over."""
        self.store.write(self._file(run_id, file), data)
        self.store.write(self._file(run_id, PARTS), sealed(self._kept_hashes(run_id) | {file: sha256(data)}))

    def kept(self, run_id: str, file: str) -> bytes | None:
        """A file that ``keep`` wrote; None if it is missing or changed."""
        data = self._read(self._file(run_id, file))
        return data if data is not None and self._kept_hashes(run_id).get(file) == sha256(data) else None

    def _kept_hashes(self, run_id: str) -> dict[str, str]:
        """File -> SHA-256 of the files that ``keep`` wrote; empty if their list is missing or damaged."""
        try:
            hashes = unsealed(self._read(self._file(run_id, PARTS)) or b"", always=True)
        except DamagedError:
            return {}
        return {file: sha for file, sha in hashes.items() if is_entry(file, sha)}

    def free(self, run_id: str, file: str) -> None:
        """Delete a file of a done run; its SHA-256 stays, so that its measurements can still be assigned to it."""
        done = self.done(run_id)
        files = dict(done["files"])
        freed = done.get("freed", {}) | {file: files.pop(file)}
        self.store.write(self._file(run_id, DONE), sealed(done | {"files": files, "freed": freed}))
        self.store.remove(self._file(run_id, file))

    def weights(self, run_id: str) -> str | None:
        """The SHA-256 of the final weights of a done run, present or freed; None if it has none."""
        done = self.done(run_id)
        digest: str | None = (done.get("freed", {}) | done["files"]).get(WEIGHTS)
        return digest

    def file(self, run_id: str, file: str) -> bytes:
        """A file of a done run, verified. DamagedError if it is damaged, UserError if it was freed."""
        done, name = self.done(run_id), self._file(run_id, file)
        expected = done["files"].get(file)
        if file in done.get("freed", {}):
            raise UserError(f"{self.store.place(name)} was deleted to free disk space: train the run again to get it")
        if expected is None:
            raise FileNotFoundError(name)
        data = self._read(name)
        if data is None or sha256(data) != expected:
            what = "is missing" if data is None else "does not hold what was written to it" if data else "is empty"
            raise DamagedError(
                f"{self.store.place(name)} {what} (its SHA-256 and that in {DONE} disagree): {self.restore(run_id)}"
            )
        return data

    def restore(self, run_id: str) -> str:
        """What to do with a damaged done run, for an error message."""
        return f"restore it, or {self.remedy(run_id)}"

    def remedy(self, run_id: str) -> str:
        """How to repeat the run, for an error message."""
        return f"train the run again after `degradation clean {self.name} --run {run_id} --yes`"

    def verify(self, run_id: str) -> None:
        """Check every file of a done run against its hash; DamagedError names the first that differs."""
        for file in self.done(run_id)["files"]:
            self.file(run_id, file)

    def damage(self, run_id: str) -> str:
        """The damage of a done run in one line; empty if there is none."""
        try:
            if self.is_done(run_id):
                self.verify(run_id)
        except UserError as error:
            return str(error)
        return ""

    def facts(self, run_id: str) -> dict[str, Any]:
        """The facts of a done run: parameters, weight hash, order checksum, seconds, provenance."""
        if FACTS not in self.done(run_id)["files"]:
            raise DamagedError(f"{self.run_path(run_id) / DONE} does not list {FACTS}: {self.restore(run_id)}")
        return unsealed(self.file(run_id, FACTS))

    # its checkpoint

    def checkpoint(self, run_id: str) -> bytes | None:
        """The bytes of a run's checkpoint; None if it has none."""
        return self._read(self._file(run_id, CHECKPOINT))

    def write_checkpoint(self, run_id: str, data: bytes) -> None:
        self.store.write(self._file(run_id, CHECKPOINT), data)

    def set_checkpoint_aside(self, run_id: str) -> bool:
        """Rename an unusable checkpoint; False if there is no file."""
        data = None
        with suppress(DamagedError):
            data = self.checkpoint(run_id)
        if data is not None:
            self.store.write(self._file(run_id, DAMAGED), data)
        self.store.remove(self._file(run_id, CHECKPOINT))
        return data is not None

    def remove_run(self, run_id: str) -> None:
        """Delete a run and its files: done.json first, so that it is not done after a crash in between."""
        self.store.remove(self._file(run_id, DONE))
        self.store.remove(f"{self.name}/{run_id}")

    def _file(self, run_id: str, file: str) -> str:
        return f"{self.name}/{run_id}/{file}"

    def _read(self, name: str) -> bytes | None:
        """The bytes of a file, in one request; None if there is none."""
        try:
            return self.store.read(name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except MemoryError:
            raise DamagedError(f"{self.store.place(name)} does not fit into memory: restore it") from None

    def _required(self, name: str, remedy: str = "restore it") -> bytes:
        if (data := self._read(name)) is None:
            raise DamagedError(f"{self.store.place(name)} is missing: {remedy}")
        return data

    def _parsed(self, name: str, data: bytes, remedy: str = "restore it or delete it") -> dict[str, Any]:
        try:
            return unsealed(data)
        except DamagedError as error:
            raise DamagedError(f"{self.store.place(name)} {error}: {remedy}") from error


class ExperimentFolder(StudyFolder):
    """One experiment on a study's runs: one folder per run, whose spec holds the settings."""

    def discard(self, run_id: str) -> None:
        """Delete the files of a run, done.json first; the holder keeps its lock."""
        for file in (DONE, *self.store.list(f"{self.name}/{run_id}")):
            self.store.remove(self._file(run_id, file))

    def remedy(self, run_id: str) -> str:
        """How to repeat the experiment, for an error message."""
        return "let `degradation clean` delete it, and run `degradation experiment` again"


def folder_at(place: str | Path) -> StudyFolder:
    """The study in a folder: ``runs/quickstart``, ``s3://bucket/runs/quickstart``, ``.``."""
    path = as_place(place)
    if isinstance(path, Path) and path.name in ("", ".."):
        path = path.resolve()
    return StudyFolder(path.parent, path.name)
