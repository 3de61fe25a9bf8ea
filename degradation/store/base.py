"""A folder somewhere -> bytes under names like ``quickstart/plain-8-s0-1c2f9a7e/curves.parquet``."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager

from degradation.store.location import Place


class Store(ABC):
    """Bytes under names in a folder: what every kind of store can do."""

    root: Place
    shared = True
    """Whether other processes see what is in it."""

    def attend(self, say: Callable[[str], None], stop: Callable[[], bool]) -> None:  # noqa: B027
        """Say there what the store has to say of itself, and wait for nothing once ``stop()``; a disk does neither."""

    def place(self, name: str = "") -> str:
        """Where a file or folder is, as printed."""
        return str(self.root / name if name else self.root)

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The bytes of a file; FileNotFoundError where there is none."""

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Replace a file in one step: a reader, or a start after a crash, sees the old bytes or the new ones.

        Raises UserError where it cannot be written, LockLost where the folder's lock was held here and is no more.
        """

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Whether there is such a file or folder."""

    @abstractmethod
    def list(self, name: str = "") -> tuple[str, ...]:
        """Names of the visible files and folders directly below ``name``, sorted; none where it does not exist."""

    @abstractmethod
    def tree(self, name: str = "") -> Mapping[str, frozenset[str]]:
        """The visible folders directly below ``name``, sorted, each with the names of what is in it."""

    @abstractmethod
    def below(self, name: str = "") -> Mapping[str, int]:
        """Every file below a folder, hidden ones too: name from there on -> bytes; empty where there is no folder."""

    @abstractmethod
    def size(self, name: str) -> int:
        """Bytes of a file or of everything below a folder."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Delete a file, or a folder with all that is in it; nothing where neither is there."""

    @abstractmethod
    def lock(self, name: str, timeout: float = 0) -> AbstractContextManager[bool]:
        """Hold the lock of a folder; yields False where another process holds it after ``timeout`` seconds."""

    @abstractmethod
    def is_locked(self, name: str) -> bool:
        """Whether somebody holds the lock of a folder; takes and makes nothing that would stay."""


def folders_of(files: Iterable[str]) -> dict[str, frozenset[str]]:
    """The visible first folders of names, sorted, each with the names directly in it."""
    found: dict[str, set[str]] = {}
    for folder, inside, *_ in (file.split("/") for file in sorted(files) if "/" in file and file[0] != "."):
        found.setdefault(folder, set()).add(inside)
    return {folder: frozenset(names) for folder, names in sorted(found.items())}
