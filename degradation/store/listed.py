"""A store and one of its folders -> the same store, which lists that folder once: for the length of one call."""

from collections.abc import Mapping
from contextlib import AbstractContextManager

from degradation.store.names import DONE, LEASE, LOCK
from degradation.store.store import Store


class Listed(Store):
    """What is there is answered from one listing, and done.json, which never changes, is read once.

    For a call that looks at every run of a study; an object that lives longer would answer from yesterday.
    """

    def __init__(self, store: Store, folder: str) -> None:
        self.root, self.shared = store.root, store.shared
        self._store, self._folder = store, folder
        self._tree = store.tree(folder)
        self._done: dict[str, bytes] = {}

    def read(self, name: str) -> bytes:
        if not self.exists(name):
            raise FileNotFoundError(name)
        if not name.endswith(f"/{DONE}"):
            return self._store.read(name)
        if name not in self._done:
            self._done[name] = self._store.read(name)
        return self._done[name]

    def exists(self, name: str) -> bool:
        folder, file = self._split(name)
        return file in self._tree.get(folder, ()) if folder else self._store.exists(name)

    def tree(self, name: str = "") -> Mapping[str, frozenset[str]]:
        return self._tree if name == self._folder else self._store.tree(name)

    def is_locked(self, name: str) -> bool:
        """Asked of the store where the listing shows a lock: a file that its holder may have left."""
        folder, inside = self._split(f"{name}/")
        files = self._tree.get(folder, ()) if folder and not inside else (LOCK,)
        return any(file.startswith((LOCK, LEASE)) for file in files) and self._store.is_locked(name)

    def _split(self, name: str) -> tuple[str, str]:
        """A name as folder and file within the listing; two empty ones where the listing does not say."""
        parts = name.removeprefix(f"{self._folder}/").split("/") if name.startswith(f"{self._folder}/") else []
        return (parts[0], parts[1]) if len(parts) == 2 else ("", "")

    # everything else is the store's own

    def write(self, name: str, data: bytes) -> None:
        self._store.write(name, data)

    def list(self, name: str = "") -> tuple[str, ...]:
        return self._store.list(name)

    def below(self, name: str = "") -> Mapping[str, int]:
        return self._store.below(name)

    def size(self, name: str) -> int:
        return self._store.size(name)

    def remove(self, name: str) -> None:
        self._store.remove(name)

    def lock(self, name: str, timeout: float = 0) -> AbstractContextManager[bool]:
        return self._store.lock(name, timeout)
