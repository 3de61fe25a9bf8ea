"""Gradients arriving at the weights -> whether .grad was cleared after an update, and which weights get no gradient."""

import torch
from torch import Tensor

from degradation.recording.module_hooks import Listener
from degradation.recording.tensors import version_of


class Arrivals:
    """Counts over all backward passes of a loop, measured or not."""

    def __init__(self) -> None:
        self.piled = 0
        """Consecutive measured steps after an update that did not clear ``.grad``."""
        self._first = False
        self._came: set[int] = set()
        self._versions: dict[int, int] = {}
        """Version counters of the weights that a backward reached first."""
        self._expected: dict[str, set[int]] = {}

    def begun(self) -> None:
        """Start of a backward."""
        self._first = True

    def reached(self, weight: Tensor, *, measured: bool) -> None:
        """Note a gradient that arrives at a weight and is not in its ``.grad`` yet."""
        self._came.add(id(weight))
        if self._first:
            self._first = False
            self._look(weight, measured)

    def _look(self, weight: Tensor, measured: bool) -> None:
        """Check whether ``.grad`` was cleared; for one weight per measured step, since it waits for the device."""
        version, before = version_of(weight), self._versions.get(id(weight))
        self._versions[id(weight)] = version
        if weight.grad is None:
            self.piled = 0
        elif measured:
            # Without an update in between, gradients accumulate on purpose.
            self.piled = self.piled + (before not in (None, version)) if _any(weight.grad) else 0

    def expect(self, listener: Listener) -> None:
        """Add the layers of a measured forward whose weights should get a gradient."""
        for name in listener.answering:
            weight = listener.weights.of[name]
            if weight is not None and weight.requires_grad:
                self._expected.setdefault(name, set()).add(id(weight))

    @property
    def cut(self) -> list[str]:
        """The layers that were used, but whose weight never got a gradient."""
        return [name for name, weights in self._expected.items() if not weights & self._came]


@torch.no_grad()
def _any(gradient: Tensor) -> bool:
    values = gradient.coalesce().values() if gradient.is_sparse else gradient
    return bool(values.count_nonzero())
