"""The actor to which workers report: a light process of the command's node that starts before them."""

from degradation.runtime.progress import Progress


class Board:
    """The messages of all workers, on the node of the command that shows them."""

    def __init__(self) -> None:
        self._messages: list[Progress] = []

    def say(self, progress: Progress) -> None:
        """Add a message."""
        self._messages.append(progress)

    def take(self) -> list[Progress]:
        """All messages since the last call, in the order of each worker."""
        messages, self._messages = self._messages, []
        return messages
