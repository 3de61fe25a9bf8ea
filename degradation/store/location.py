"""A path or URL from the user -> a Path or a Url: `pathlib` would turn ``s3://x`` into ``s3:/x``."""

import re
from pathlib import Path

from degradation.errors import UserError


class Url(str):
    """The address of a folder or file in a store, ``s3://bucket/runs``; ``/`` extends it as a Path."""

    __slots__ = ()

    def __truediv__(self, name: str | Path) -> "Url":
        return Url(f"{self.rstrip('/')}/{name}" if not self.endswith("://") else f"{self}{name}")

    @property
    def name(self) -> str:
        """The part after the last slash."""
        return self.rsplit("/", 1)[-1]

    @property
    def parent(self) -> "Url":
        """The part before the last slash."""
        above = self.rsplit("/", 1)[0]
        return Url(f"{above}/" if above.endswith("/") else above)


Place = Path | Url
ON_DISK = ("file", "local")


def as_place(place: str | Path) -> Place:
    """A Url if the text contains ``://``, else a Path. UserError for a URL that has lost a slash.

    Repeated slashes in a Url count as one, as in a Path.
    """
    if one_slash := re.match(r"(\w{2,}):/(\w.*)", str(place)):  # one letter before the colon is a Windows drive
        if isinstance(place, Path):
            raise UserError(f"{place} is a URL that went through pathlib: give it as text, with both slashes")
        protocol, rest = one_slash.groups()
        raise UserError(f"{place}: did you mean {protocol}://{'/' if protocol in ON_DISK else ''}{rest}?")
    if isinstance(place, Path):
        return place
    protocol, separator, rest = place.partition("://")
    if not separator:
        return Path(place)
    return Path(rest) if protocol in ON_DISK else Url(f"{protocol}://{re.sub('/+', '/', rest).rstrip('/')}")
