"""What a user calls a place -> a Path, or a Url: text that `pathlib` would spoil (``s3://x`` becomes ``s3:/x``)."""

import re
from pathlib import Path

from degradation.errors import UseError


class Url(str):
    """The address of a folder or file in a store, ``s3://bucket/runs``, extended by ``/`` as a Path is."""

    __slots__ = ()

    def __truediv__(self, name: str | Path) -> "Url":
        return Url(f"{self.rstrip('/')}/{name}" if not self.endswith("://") else f"{self}{name}")

    @property
    def name(self) -> str:
        """What stands behind the last slash."""
        return self.rsplit("/", 1)[-1]

    @property
    def parent(self) -> "Url":
        """What stands before it."""
        above = self.rsplit("/", 1)[0]
        return Url(f"{above}/" if above.endswith("/") else above)


Place = Path | Url


def as_place(place: str | Path) -> Place:
    """A Url where there is ``://``, else a Path. UseError for a Path made of a URL, which has lost a slash."""
    if isinstance(place, Path):
        if re.match(r"\w{2,}:/\w", str(place)):  # one letter before the colon is a drive of Windows
            raise UseError(f"{place} is a URL that went through pathlib: give it as text, with both slashes")
        return place
    protocol, separator, rest = place.partition("://")
    if not separator:
        return Path(place)
    return Path(rest) if protocol in ("file", "local") else Url(f"{protocol}://{rest.rstrip('/')}")
