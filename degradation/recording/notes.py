"""Failed measurements, step by step -> one warning and one line of each kind; never an exception."""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

NAMED = 3  # most names in a line
LINES = 30  # most kinds; the rest count as one: the text of an error may differ at every step


class Notes:
    """Lines, each with its steps."""

    def __init__(self) -> None:
        self.step = 0
        """The current step."""
        self._steps: dict[str, list[int]] = {}
        self._names: dict[str, dict[str, None]] = {}

    def add(self, line: str, names: Sequence[str] = ()) -> None:
        """Add the line for the current step; the first time it is a warning.

        ``names`` replace its ``{}``: lines that differ only in them are one.
        """
        if line not in self._steps and len(self._steps) >= LINES:
            line = "more that could not be measured"
        new = line not in self._steps
        self._names.setdefault(line, {}).update(dict.fromkeys(names))
        first, count = self._steps.get(line, [self.step, 0])
        self._steps[line] = [first, count + 1]
        if new:
            with contextlib.suppress(Warning):  # if warnings are errors, the loop continues all the same
                warnings.warn(f"{self._whole(line)} (step {self.step:,})", stacklevel=4)

    def failed(self, what: str, error: Exception) -> None:
        """Add a failed measurement of a step; the loop continues."""
        self.add(f"{what} could not be read: {shown(error)}")

    def lines(self) -> list[str]:
        """Each line once, with its first step and its number of steps."""
        return [
            f"{self._whole(line)} (step {first:,})"
            if count == 1
            else f"{self._whole(line)} ({count:,} steps, the first is {first:,})"
            for line, (first, count) in self._steps.items()
        ]

    def _whole(self, line: str) -> str:
        names = list(self._names[line])
        return line.replace("{}", several(names), 1) if names else line


class Unread:
    """Unreadable values of the layers at a step, and the reasons."""

    def __init__(self) -> None:
        self._layers: dict[tuple[str, str], dict[str, None]] = {}

    def add(self, what: str, layer: str, why: str) -> None:
        """Add a value of a layer."""
        self._layers.setdefault((what, why), {})[layer] = None

    @contextmanager
    def instead(self, what: str, layer: str) -> Iterator[None]:
        """Inside the block, add the value instead of raising."""
        try:
            yield
        except Exception as error:
            self.add(what, layer, shown(error))

    def report(self, notes: Notes) -> None:
        """Add one line for each cause to the notes."""
        for (what, why), names in self._layers.items():
            notes.add(f"the {what} of {{}} is not measured: {why}", list(names))


def why_unheard(*, reentrant: bool, again: bool, empty: bool) -> str:
    """The reason why a backward has no responses of its forward.

    ``again``: it went through the forward of an earlier step; ``empty``: the batch was empty.
    """
    if reentrant:
        return (
            "reentrant checkpointing: each of its parts counts as a step, its layers have no response, and numbers of "
            "the others are missing; use_reentrant=False avoids this"
        )
    if again:
        return "a backward through the forward of an earlier step (retain_graph): the responses are at that step"
    if empty:
        return "no response was seen: the batch was empty"
    return "no response was seen: does the forward run in a compiled graph?"


def shown(error: Exception) -> str:
    """An exception in one short line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text if len(text) <= 100 else text[:97] + '...'}"


def several(names: Sequence[str]) -> str:
    """The first few of the names, and the number of further ones."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
