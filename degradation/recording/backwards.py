"""Gradients arriving at the weights -> when each backward of somebody else's loop begins and ends."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor

Begun = Callable[[], None]
Ended = Callable[[int], None]


def current() -> int:
    """Number of the backward that runs in this thread; negative outside of one."""
    return int(torch._C._current_graph_task_id())


class Backwards:
    """Within the block, calls ``begun`` when a backward first reaches a weight, ``ended`` with its number at its end.

    The hooks sit on the weights, which lie outside of any compiled graph: they break none and cause no recompilation.
    """

    def __init__(self, weights: Iterable[Tensor], begun: Begun, ended: Ended) -> None:
        self._weights = [weight for weight in weights if weight.requires_grad]
        self._begun, self._ended = begun, ended
        self._handles: list[Any] = []
        self._running: int | None = None

    def __enter__(self) -> Self:
        # Where a whole step is compiled, the hooks are called within it: they must not be compiled with it.
        reached = torch.compiler.disable(self._reached)  # type: ignore[no-untyped-call]
        self._handles = [weight.register_hook(reached) for weight in self._weights]  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _reached(self, _gradient: Tensor) -> None:
        number = current()
        if number == self._running:
            return
        self._running = number
        self._begun()
        # As DistributedDataParallel has it: the engine calls back when all of this backward is done.
        engine: Any = torch.autograd.Variable._execution_engine
        ended = torch.compiler.disable(partial(self._ended, number))  # type: ignore[no-untyped-call]
        engine.queue_callback(ended)
