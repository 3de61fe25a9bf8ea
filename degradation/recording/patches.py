"""A function of torch with another in its place while any recording needs it, whichever comes and goes first."""

from collections.abc import Callable
from typing import Any


class Patch:
    """Between ``begin`` and ``end``, as often as they are called, ``owner`` has ``make(original)`` under the name."""

    def __init__(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        self._owner, self._name, self._make = owner, name, make
        self._original: Any = None
        self._ours: Any = None
        self._users = 0

    def begin(self) -> None:
        """One more needs it."""
        if not self._users:
            self._original = getattr(self._owner, self._name, None)
            if self._original is not None:  # a torch that has none needs none
                self._ours = self._make(self._original)
                setattr(self._owner, self._name, self._ours)
        self._users += 1

    def end(self) -> None:
        """One fewer; the last puts the original back, unless somebody has put another one over ours."""
        self._users -= 1
        if not self._users and self._ours is not None and getattr(self._owner, self._name) is self._ours:
            setattr(self._owner, self._name, self._original)
