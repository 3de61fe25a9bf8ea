"""A path or a URL -> the store that is there."""

from pathlib import Path

from degradation.errors import UseError
from degradation.store.local import LocalStore
from degradation.store.place import Url, as_place
from degradation.store.store import Store


def store_at(root: str | Path) -> Store:
    """The store of a folder. UseError where none can be."""
    place = as_place(root)
    if isinstance(place, Url):
        raise UseError(f"{place}: expected a path to a folder")
    return LocalStore(place)
