"""The actor to which workers report: a small process on the command's node that starts before them."""

from degradation.runtime.progress import Progress


class Board:
    """The messages of all workers, until the command takes them."""

    def __init__(self) -> None:
        self._messages: list[Progress] = []

    def say(self, progress: Progress) -> None:
        """Add a message."""
        self._messages.append(progress)

    def take(self) -> list[Progress]:
        """All messages since the last call; those of each worker are in order."""
        messages, self._messages = self._messages, []
        return messages
