"""Gradients arriving at the weights -> when each backward of somebody else's loop begins and ends, and sums of it."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor

SMALL = 2**16  # values of a gradient that is summed at every step
Begun = Callable[[], None]
Ended = Callable[[int, list[Tensor]], None]


def current() -> int:
    """Number of the backward that runs in this thread; negative outside of one."""
    return int(torch._C._current_graph_task_id())


class Backwards:
    """Within the block, calls ``begun`` when a backward first reaches a weight, ``ended`` with its number at its end.

    ``ended`` also gets the sums of the gradients that it reached first and last, where they are small: infinity or NaN
    in the forward or in the loss is in the first, one that arose on the way in the last. While ``paused`` nothing is
    called. The hooks sit on the weights, which lie outside of any compiled graph: they break none and cause no
    recompilation.
    """

    def __init__(self, weights: Iterable[Tensor], begun: Begun, ended: Ended) -> None:
        self._weights = [weight for weight in weights if weight.requires_grad]
        self._begun, self._ended = begun, ended
        self._handles: list[Any] = []
        self._running: set[int] = set()
        self._sums: list[Tensor] = []
        self._last: Tensor | None = None
        self.paused = False

    def __enter__(self) -> Self:
        for weight in self._weights:
            # Where a whole step is compiled, the hooks are called within it: they must not be compiled with it.
            reached = torch.compiler.disable(partial(self._reached, weight))  # type: ignore[no-untyped-call]
            self._handles.append(weight.register_hook(reached))  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _reached(self, weight: Tensor, gradient: Tensor) -> None:
        if self.paused:
            return
        # The weight, not its gradient: one that is held here would be copied into .grad instead of becoming it.
        self._last = weight
        number = current()
        if number in self._running:
            return
        self._running.add(number)  # several: reentrant checkpointing runs a backward within one
        self._begun()
        self._sums = _sums(gradient)
        # As DistributedDataParallel has it: the engine calls back when all of this backward is done.
        engine: Any = torch.autograd.Variable._execution_engine
        ended = torch.compiler.disable(partial(self._done, number))  # type: ignore[no-untyped-call]
        engine.queue_callback(ended)

    def _done(self, number: int) -> None:
        self._running.discard(number)
        last = None if self._last is None else self._last.grad
        sums = self._sums + ([] if last is None else _sums(last))
        self._sums, self._last = [], None
        self._ended(number, sums)


@torch.no_grad()
def _sums(gradient: Tensor) -> list[Tensor]:
    """The sum of a gradient in float32, which is finite where all of it is; nothing of a large or sparse one."""
    if gradient.numel() > SMALL or gradient.layout != torch.strided:
        return []
    return [gradient.detach().sum(dtype=torch.float32)]
