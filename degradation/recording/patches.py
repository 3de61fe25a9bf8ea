"""A function of torch, replaced while any recording needs it, in any order of start and end."""

from collections.abc import Callable
from typing import Any


class Patch:
    """Between ``begin`` and ``end`` (counted) ``owner`` has ``make(original)`` under the name."""

    def __init__(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        self._owner, self._name, self._make = owner, name, make
        self._original: Any = None
        self._ours: Any = None
        self._users = 0

    def begin(self) -> None:
        """Replace it, or count one more user."""
        if not self._users:
            self._original = getattr(self._owner, self._name, None)
            if self._original is not None:  # this version of torch does not have it
                self._ours = self._make(self._original)
                setattr(self._owner, self._name, self._ours)
        self._users += 1

    def end(self) -> None:
        """Count one user less; the last restores the original, unless other code has replaced ours."""
        self._users -= 1
        if not self._users and self._ours is not None and getattr(self._owner, self._name) is self._ours:
            setattr(self._owner, self._name, self._original)
