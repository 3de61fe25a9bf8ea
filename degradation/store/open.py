"""A path or a URL -> its store."""

from pathlib import Path

from degradation.store.base import Store
from degradation.store.local import LocalStore
from degradation.store.location import Url, as_place


def store_at(root: str | Path) -> Store:
    """The store of a folder. UserError if a package is missing or the protocol is unknown."""
    place = as_place(root)
    if not isinstance(place, Url):
        return LocalStore(place)
    from degradation.store.remote import RemoteStore

    return RemoteStore(place)
