"""A folder -> bytes under names like ``quickstart/plain-8-s0-1c2f9a7e/curves.parquet``."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager

from degradation.store.location import Place


class Store(ABC):
    """The interface of every store: bytes under names in a folder."""

    root: Place
    shared = True
    """Whether other processes can read its content."""

    def attend(self, say: Callable[[str], None], stop: Callable[[], bool]) -> None:  # noqa: B027
        """Set the callback for messages and the stop request that ends waiting; a disk needs neither."""

    def place(self, name: str = "") -> str:
        """The path of a file or folder, as text."""
        return str(self.root / name if name else self.root)

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The bytes of a file; FileNotFoundError if there is none."""

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Replace a file in one step: a reader, or a start after a crash, sees the old bytes or the new ones.

        Raises UserError if it cannot be written, LockLost if this process has lost the folder's lock.
        """

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Whether there is such a file or folder."""

    @abstractmethod
    def list(self, name: str = "") -> tuple[str, ...]:
        """Names of the visible files and folders directly below ``name``, sorted; none if it does not exist."""

    @abstractmethod
    def tree(self, name: str = "") -> Mapping[str, frozenset[str]]:
        """The visible folders directly below ``name``, sorted, each with the names in it."""

    @abstractmethod
    def below(self, name: str = "") -> Mapping[str, int]:
        """Every file below a folder, hidden ones too: relative name -> bytes; empty if there is no folder."""

    @abstractmethod
    def size(self, name: str) -> int:
        """Bytes of a file or of everything below a folder."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Delete a file, or a folder with its content; nothing happens if neither exists."""

    @abstractmethod
    def lock(self, name: str, timeout: float = 0) -> AbstractContextManager[bool]:
        """Hold the lock of a folder; yields False if another process still holds it after ``timeout`` seconds."""

    @abstractmethod
    def is_locked(self, name: str) -> bool:
        """Whether any process holds the lock of a folder; takes no lock and creates no file."""


def folders_of(files: Iterable[str]) -> dict[str, frozenset[str]]:
    """The visible top folders of file names, sorted, each with the names directly in it."""
    folders: dict[str, set[str]] = {}
    for folder, inside, *_ in (file.split("/") for file in files if "/" in file and file[0] != "."):
        folders.setdefault(folder, set()).add(inside)
    return {folder: frozenset(names) for folder, names in sorted(folders.items())}
