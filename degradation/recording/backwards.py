"""Gradients arriving at the weights -> when each backward of somebody else's loop begins and ends, and if finite."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor

WHOLE = 2**18
"""Values of a gradient that is read whole: to read all of a resnet18 adds 3 % to a step of 32 small images."""
Begun = Callable[[], None]
Ended = Callable[[int, list[Tensor]], None]


def current() -> int:
    """Number of the backward that runs in this thread; negative outside of one."""
    return int(torch._C._current_graph_task_id())


class Backwards:
    """Within the block, calls ``begun`` when a backward first reaches a weight, ``ended`` with its number at its end.

    ``ended`` also gets numbers that are finite where the gradients of all the weights are: norms of those that the
    backward put into ``.grad``, taken together at its end, and sums of those that it adds to what is there, or that an
    optimizer within the backward takes away. Of one with more than ``WHOLE`` values it is the first row and column: in
    a convolution or linear layer what is not finite in a response or its gradient reaches one of them, and a single
    value that overflows is seen a step later, when an update has carried it into the weights. Of a loop that calls
    ``torch.autograd.grad`` it is only the first gradient. While ``paused`` nothing is called. The hooks sit on the
    weights, which lie outside of any compiled graph: they break none and cause no recompilation.
    """

    def __init__(self, weights: Iterable[Tensor], begun: Begun, ended: Ended) -> None:
        self._weights = [weight for weight in weights if weight.requires_grad]
        self._begun, self._ended = begun, ended
        self._handles: list[Any] = []
        self._running: dict[int, tuple[list[Tensor], list[Tensor]]] = {}
        """Of each backward the weights whose ``.grad`` it makes, and the sums of its other gradients."""
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
        number = current()
        begins = number not in self._running  # several run: reentrant checkpointing has a backward within one
        made, sums = self._running.setdefault(number, ([], []))
        # The weight, not its gradient: one that is held here would be copied into .grad instead of becoming it.
        makes = weight.grad is None and not weight._post_accumulate_grad_hooks
        if makes:
            made.append(weight)
        if begins or not makes:
            sums += [part.sum(dtype=torch.promote_types(part.dtype, torch.float32)) for part in _parts(gradient)]
        if begins:
            self._begun()
            # As DistributedDataParallel has it: the engine calls back when all of this backward is done.
            engine: Any = torch.autograd.Variable._execution_engine
            ended = torch.compiler.disable(partial(self._done, number))  # type: ignore[no-untyped-call]
            engine.queue_callback(ended)

    def _done(self, number: int) -> None:
        made, sums = self._running.pop(number)
        self._ended(number, sums + _norms([weight.grad for weight in made if weight.grad is not None]))


@torch.no_grad()
def _norms(gradients: list[Tensor]) -> list[Tensor]:
    """The L2 norms of gradients or of their parts, many at a time."""
    parts = [part for gradient in gradients for part in _parts(gradient)]
    narrow, wide = [part for part in parts if part.itemsize < 4], [part for part in parts if part.itemsize >= 4]
    found = [*torch._foreach_norm(narrow, dtype=torch.float32)] if narrow else []
    return found + ([*torch._foreach_norm(wide)] if wide else [])


def _parts(gradient: Tensor) -> list[Tensor]:
    """What is looked at of a gradient, in real numbers."""
    values = gradient.detach()
    values = values._values() if values.is_sparse else values
    values = torch.view_as_real(values) if values.is_complex() else values
    return [values] if values.numel() <= WHOLE or values.ndim < 2 else [values[0], values[:, 0]]
