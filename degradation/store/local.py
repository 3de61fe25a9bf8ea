"""A folder on a local or mounted disk as a store."""

import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from filelock import FileLock, Timeout

from degradation.errors import DamagedError, UserError
from degradation.store.base import Store
from degradation.store.filenames import LOCK, RUN_ID, SPEC, WRITING

SMALL = 2**24
"""Bytes: the size of smaller files is not checked before reading."""


class LocalStore(Store):
    """Bytes under names in a folder of the file system."""

    root: Path

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, name: str) -> bytes:
        """The bytes of a file. DamagedError if the path is not a file, or cannot be read."""
        path = self.root / name
        try:
            with open(path, "rb", opener=_without_waiting) as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise DamagedError(f"{path} is no file: delete it")
                if not _fits(file, path.suffix, status.st_size):
                    raise DamagedError(
                        f"{path} is larger than its content ({status.st_size:,} bytes): restore it or delete it"
                    )
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            raise
        except OSError as error:
            raise DamagedError(f"{path} cannot be read ({error.strerror}): restore it or delete it") from error

    def write(self, name: str, data: bytes) -> None:
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
        return os.path.lexists(self.root / name)

    def list(self, name: str = "") -> tuple[str, ...]:
        folder = self.root / name
        try:
            return tuple(sorted(p.name for p in folder.iterdir() if p.name[0] != ".")) if folder.is_dir() else ()
        except OSError as error:
            raise UserError(f"{folder} cannot be read: {error.strerror}") from error

    def tree(self, name: str = "") -> Mapping[str, frozenset[str]]:
        # A file with a run's name is listed too: it is reported when it is read.
        paths = map((self.root / name).joinpath, self.list(name))
        return {path.name: _children(path) for path in paths if path.is_dir() or RUN_ID.fullmatch(path.name)}

    def below(self, name: str = "") -> Mapping[str, int]:
        folder = self.root / name
        return {p.relative_to(folder).as_posix(): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}

    def size(self, name: str) -> int:
        path = self.root / name
        return path.stat().st_size if path.is_file() else sum(self.below(name).values())

    def remove(self, name: str) -> None:
        path = self.root / name
        with _one_line(path):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    @contextmanager
    def lock(self, name: str, timeout: float = 0) -> Iterator[bool]:
        """A file lock: the operating system frees it when the holder dies, for whatever reason."""
        folder = self.root / name
        with _one_line(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / LOCK)
            with suppress(Timeout):
                lock.acquire(timeout=timeout)
        try:
            yield lock.is_locked
        finally:
            lock.release()

    def is_locked(self, name: str) -> bool:
        if not self.exists(f"{name}/{LOCK}"):
            return False
        try:
            with self.lock(name) as held:
                return not held
        except UserError:
            return False  # no process can work in a folder that cannot be written


def _children(folder: Path) -> frozenset[str]:
    """The names in a folder. A folder that cannot be listed counts as that of a run: reading it reports the reason."""
    try:
        return frozenset(child.name for child in folder.iterdir())
    except OSError:
        return frozenset((SPEC,))


def _fits(file: BinaryIO, suffix: str, size: int) -> bool:
    """Whether a file's size fits its content; only a few bytes are read."""
    if suffix == ".json":
        return size <= 2**26  # the description of a study with a million seeds is smaller
    if size <= SMALL:
        return True
    try:
        if suffix == ".parquet":
            file.seek(-4, os.SEEK_END)
            return file.read(4) == b"PAR1"
        if suffix == ".safetensors":
            header = int.from_bytes(file.read(8), "little")
            tensors = json.loads(file.read(header)) if header <= 2**27 else {}
            ends = [tensor["data_offsets"][1] for name, tensor in tensors.items() if name != "__metadata__"]
            return size == 8 + header + max(ends, default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return False
    finally:
        file.seek(0)
    return size <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _without_waiting(path: str, flags: int) -> int:
    """Open a file without blocking: a named pipe would wait for a writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Turn an OSError (full disk, read-only folder) into one line."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"cannot write {path}: {reason}. Completed work is saved; fix it and run again.") from error
