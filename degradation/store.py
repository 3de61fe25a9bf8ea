"""Where a study lives on disk, and the only module that knows a file name: bytes in, bytes out.

``runs/NAME/study.json``, ``runs/NAME/RUN_ID/{spec.json, checkpoint.safetensors, *.parquet, final.safetensors,
facts.json, done.json}``, ``runs/NAME/figures/``, ``runs/NAME/mechanisms/EXPERIMENT/RUN_ID/``. Present ``done.json``
means done: it is written last, holds the SHA-256 of every other file, and nothing in that folder is written again.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

from degradation.errors import DamagedError, UseError

DONE, SPEC, FACTS, CHECKPOINT = "done.json", "spec.json", "facts.json", "checkpoint.safetensors"
WEIGHTS = "final.safetensors"
DAMAGED = "damaged.safetensors"
FAILURE = "failure.txt"
STUDY = "study.json"
LOCK = ".lock"
WRITING = ".writing-"
FIGURES = "figures"
MECHANISMS = "mechanisms"


class Store:
    """Bytes under names like ``quickstart/plain-8-s0-1c2f9a7e/curves.parquet`` in a folder."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def read(self, name: str) -> bytes:
        """The bytes of a file; FileNotFoundError where there is none."""
        return (self.root / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        """Replace a file in one step: a reader, or a start after a crash, sees the old bytes or the new ones."""
        target = self.root / name
        with _one_line(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f"{WRITING}{uuid4().hex}")
            try:
                with temporary.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise

    def exists(self, name: str) -> bool:
        return (self.root / name).exists()

    def list(self, name: str = "") -> tuple[str, ...]:
        """Names of the visible files and folders directly below ``name``, sorted; none where it does not exist."""
        folder = self.root / name
        return tuple(sorted(p.name for p in folder.iterdir() if p.name[0] != ".")) if folder.is_dir() else ()

    def tree(self, name: str = "") -> dict[str, frozenset[str]]:
        """The visible folders directly below ``name``, sorted, each with the names of what is in it."""
        below = [path for path in map((self.root / name).joinpath, self.list(name)) if path.is_dir()]
        return {path.name: frozenset(found.name for found in path.iterdir()) for path in below}

    def size(self, name: str) -> int:
        """Bytes of a file or of everything below a folder."""
        path = self.root / name
        return sum(p.stat().st_size for p in ([path] if path.is_file() else path.rglob("*")) if p.is_file())

    def remove(self, name: str) -> None:
        """Delete a file, or a folder with all that is in it."""
        path = self.root / name
        with _one_line(path):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    @contextmanager
    def lock(self, name: str, timeout: float = 0) -> Iterator[bool]:
        """Hold the lock of a folder; yields False where another process holds it after ``timeout`` seconds.

        The operating system frees it when the holder dies, however it dies.
        """
        folder = self.root / name
        with _one_line(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / LOCK)
            try:
                lock.acquire(timeout=timeout)
            except Timeout:
                held = False
            else:
                held = True
        try:
            yield held
        finally:
            if held:
                lock.release()


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Say in one line what the operating system refuses: a full disk, a read-only folder."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UseError(
            f"cannot write {path}: {reason}. What is done so far is kept; free or change it and run again."
        ) from error


class StudyFolder:
    """One study in a store: its spec, its runs, their files."""

    def __init__(self, root: str | Path, name: str) -> None:
        if not name or name[0] in ".-" or not all(c.isalnum() or c in "-_." for c in name):
            raise UseError(
                f"a study's name has letters, digits, '-', '_' and '.' only, not {name!r}: give it one with --name"
            )
        self.store = Store(root)
        self.name = name

    @property
    def path(self) -> Path:
        return self.store.root / self.name

    def figures_path(self) -> Path:
        """The folder of the study's figures."""
        return self.path / FIGURES

    def experiment(self, name: str) -> "ExperimentFolder":
        """The folder of one experiment on this study's runs."""
        return ExperimentFolder(self.path / MECHANISMS, name)

    def run_path(self, run_id: str) -> Path:
        return self.path / run_id

    # the study

    def study(self) -> dict[str, Any] | None:
        """The fields of the StudySpec on disk; None where there is no such study."""
        return self._json(f"{self.name}/{STUDY}") if self.store.exists(f"{self.name}/{STUDY}") else None

    def write_study(self, fields: Mapping[str, Any]) -> None:
        self.store.write(f"{self.name}/{STUDY}", _to_json(fields))

    def study_lock(self, timeout: float = 10) -> Any:
        """The lock under which study.json is read, grown and written."""
        return self.store.lock(self.name, timeout)

    def leftovers(self) -> tuple[Path, ...]:
        """Temporary files of writes whose process was killed."""
        return tuple(sorted(self.path.rglob(f"{WRITING}*")))

    # its runs

    def run_ids(self) -> tuple[str, ...]:
        """The runs on disk, done or not, sorted; a done one that lost its spec.json is damaged, not trained over."""
        return tuple(name for name, files in self.store.tree(self.name).items() if files & {SPEC, DONE})

    def spec(self, run_id: str) -> dict[str, Any]:
        """The fields of the RunSpec of a run on disk; those of a done run are verified."""
        if self.is_done(run_id):
            self.file(run_id, SPEC)
        return self._json(self._file(run_id, SPEC))

    def write_spec(self, run_id: str, fields: Mapping[str, Any]) -> None:
        self.store.write(self._file(run_id, SPEC), _to_json(fields))

    def lock(self, run_id: str) -> Any:
        """The lock that the one process training this run holds; yields False where another holds it."""
        return self.store.lock(f"{self.name}/{run_id}")

    def is_done(self, run_id: str) -> bool:
        return self.store.exists(self._file(run_id, DONE))

    def done(self, run_id: str) -> dict[str, Any]:
        """``status`` (finished or diverged) and ``files``: name -> SHA-256."""
        found = self._json(self._file(run_id, DONE))
        if not {"status", "files"} <= found.keys():
            raise DamagedError(
                f"{self.run_path(run_id) / DONE} does not say how the run ended: restore it or delete it"
            )
        return found

    def commit(self, run_id: str, status: str, files: Mapping[str, bytes], parts: Collection[str] = ()) -> None:
        """Write the files of a run that ended, then done.json, then forget checkpoint, failures and ``parts``."""
        for file, data in files.items():
            self.store.write(self._file(run_id, file), data)
        passing = (CHECKPOINT, DAMAGED, FAILURE, *parts)
        kept = [file for file in self.store.list(f"{self.name}/{run_id}") if file not in passing]
        hashes = {file: hashlib.sha256(self.store.read(self._file(run_id, file))).hexdigest() for file in kept}
        self.store.write(self._file(run_id, DONE), _to_json({"status": status, "files": hashes}))
        for file in passing:
            self.store.remove(self._file(run_id, file))

    def write_file(self, run_id: str, file: str, data: bytes) -> None:
        """A file of a run that is not done yet; ``commit`` takes it in."""
        self.store.write(self._file(run_id, file), data)

    def file(self, run_id: str, file: str) -> bytes:
        """A file of a done run, verified; DamagedError where it is not what was written."""
        expected = self.done(run_id)["files"].get(file)
        name = self._file(run_id, file)
        if expected is None:
            raise FileNotFoundError(name)
        data = self.store.read(name) if self.store.exists(name) else b""
        if hashlib.sha256(data).hexdigest() != expected:
            what = "does not hold what was written to it" if data else "is missing"
            raise DamagedError(
                f"{self.store.root / name} {what} (SHA-256 in {DONE} disagrees): restore it, or {self._remedy(run_id)}"
            )
        return data

    def _remedy(self, run_id: str) -> str:
        return f"train the run again after `degradation clean {self.name} --run {run_id} --yes`"

    def verify(self, run_id: str) -> None:
        """Read every file of a done run against its hash; DamagedError names the first that differs."""
        for file in self.done(run_id)["files"]:
            self.file(run_id, file)

    def facts(self, run_id: str) -> dict[str, Any]:
        """What became known of a done run: parameters, weight hash, order checksum, seconds, provenance."""
        return dict(json.loads(self.file(run_id, FACTS)))

    # its checkpoint

    def checkpoint(self, run_id: str) -> bytes | None:
        name = self._file(run_id, CHECKPOINT)
        return self.store.read(name) if self.store.exists(name) else None

    def write_checkpoint(self, run_id: str, data: bytes) -> None:
        self.store.write(self._file(run_id, CHECKPOINT), data)

    def set_checkpoint_aside(self, run_id: str) -> None:
        """Keep a checkpoint that cannot be read under another name."""
        self.store.write(self._file(run_id, DAMAGED), self.store.read(self._file(run_id, CHECKPOINT)))
        self.store.remove(self._file(run_id, CHECKPOINT))

    def write_failure(self, run_id: str, text: str) -> Path:
        """Keep why a run failed, for whoever looks into it; the path of the file."""
        self.store.write(self._file(run_id, FAILURE), text.encode())
        return self.store.root / self._file(run_id, FAILURE)

    def remove_run(self, run_id: str) -> None:
        """Delete a run and all it holds: done.json first, so that a crash on the way leaves it undone."""
        self.store.remove(self._file(run_id, DONE))
        self.store.remove(f"{self.name}/{run_id}")

    def _file(self, run_id: str, file: str) -> str:
        return f"{self.name}/{run_id}/{file}"

    def _json(self, name: str) -> dict[str, Any]:
        try:
            return dict(json.loads(self.store.read(name)))
        except FileNotFoundError as error:
            raise DamagedError(f"{self.store.root / name} is missing: restore it") from error
        except (ValueError, TypeError) as error:  # TypeError: JSON, but no object
            raise DamagedError(f"{self.store.root / name} is not JSON ({error}): restore it or delete it") from error


class ExperimentFolder(StudyFolder):
    """One experiment on a study's runs: for each a folder under the run's id, whose spec says what was asked."""

    def part(self, run_id: str, file: str) -> bytes | None:
        """A file of a run that is not done yet; None where there is none."""
        name = self._file(run_id, file)
        return self.store.read(name) if self.store.exists(name) else None

    def discard(self, run_id: str) -> None:
        """Delete what is there of a run, done.json first; its lock stays with the holder."""
        for file in (DONE, *self.store.list(f"{self.name}/{run_id}")):
            self.store.remove(self._file(run_id, file))

    def _remedy(self, run_id: str) -> str:
        return f"delete {self.run_path(run_id)} and run `degradation mechanism` again"


def frame_file(name: str) -> str:
    """The file of a frame in a run's folder."""
    return f"{name}.parquet"


def snapshot_file(step: int) -> str:
    """The file of the weights after ``step`` updates."""
    return f"snapshot-{step}.safetensors"


def _to_json(fields: Mapping[str, Any]) -> bytes:
    return (json.dumps(fields, indent=1) + "\n").encode()
