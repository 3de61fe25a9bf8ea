"""What could not be measured as asked, step by step -> one warning and one line of each kind."""

import warnings


class Notes:
    """Lines, each with the steps it holds for."""

    def __init__(self) -> None:
        self._steps: dict[str, list[int]] = {}

    def add(self, line: str, step: int) -> None:
        """The line holds for ``step``; it is a warning the first time."""
        if line not in self._steps:
            warnings.warn(f"{line} (step {step:,})", stacklevel=4)
        first, count = self._steps.get(line, [step, 0])
        self._steps[line] = [first, count + 1]

    def lines(self) -> list[str]:
        """Each line once, with its first step and its number of steps."""
        return [
            f"{line} (step {first:,})" if count == 1 else f"{line} ({count:,} steps, the first is {first:,})"
            for line, (first, count) in self._steps.items()
        ]
