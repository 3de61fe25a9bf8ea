"""Where the messages of all workers meet: a process of the command's node, light enough to be there before them."""

from degradation.runtime.progress import Progress


class Board:
    """The messages of all workers, on the node of the command that shows them."""

    def __init__(self) -> None:
        self._said: list[Progress] = []

    def say(self, progress: Progress) -> None:
        """Put a message up."""
        self._said.append(progress)

    def take(self) -> list[Progress]:
        """All messages since the last time, in the order in which each worker said them."""
        said, self._said = self._said, []
        return said
