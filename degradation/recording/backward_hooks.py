"""Gradients arriving at the weights -> start and end of each backward of the user's loop, and whether it is finite."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import Module

from degradation.probes.magnitudes import peaks
from degradation.recording.notes import Notes
from degradation.recording.tensors import real

WHOLE = 2**18
"""Largest gradient that is read completely: reading all of a resnet18 adds 3 % to a step of 32 small images."""


def current() -> int:
    """Number of the backward running in this thread; negative outside of one."""
    return int(torch._C._current_graph_task_id())


@dataclass
class Running:
    """State of a running backward."""

    made: list[Tensor] = field(default_factory=list)
    """The weights whose ``.grad`` it creates."""
    peaks: list[Tensor] = field(default_factory=list)
    """Numbers of its other gradients."""


class BackwardHooks:
    """Within the block, calls ``begun`` when a backward first reaches a weight, ``ended`` with its number at its end.

    Between them it calls ``reached`` with each weight and its gradient, before this changes anything. ``ended`` also
    gets numbers that are finite if the gradients of all weights are. Gradients that the backward creates in ``.grad``
    are read at its end; those that it adds, or that an optimizer inside the backward removes, when they arrive. Of a
    gradient of more than ``WHOLE`` values only the first row and column are read: in a convolution or linear layer a
    non-finite response or gradient reaches one of them, and a single value that overflows is detected one step later,
    when an update has put it into the weights. In a loop that calls ``torch.autograd.grad`` only the first gradient is
    read. While ``paused`` nothing is called. The hooks are on the weights, outside of any compiled graph: they cause
    no graph break and no recompilation.
    """

    def __init__(
        self,
        network: Module,
        begun: Callable[[], None],
        reached: Callable[[Tensor, Tensor], None],
        ended: Callable[[int, list[Tensor]], None],
        notes: Notes,
    ) -> None:
        self._network, self._notes = network, notes
        self._begun, self._on_gradient, self._ended = begun, reached, ended
        self._hooked: dict[int, tuple[weakref.ref[Tensor], Any]] = {}
        # Only the engine holds it, and releases it if a backward fails.
        self._running: weakref.WeakValueDictionary[int, Running] = weakref.WeakValueDictionary()
        self.paused = False

    def __enter__(self) -> Self:
        self.look()
        return self

    def __exit__(self, *_: object) -> None:
        for _weight, handle in self._hooked.values():
            handle.remove()
        self._hooked.clear()

    def look(self) -> None:
        """Watch the weights that the network has now."""
        try:
            for weight in self._network.parameters():
                self.add(weight)
        except Exception as error:
            self._notes.failed("a weight", error)

    def unseen(self) -> list[str]:
        """The trained weights without a hook: they were added in a way that no hook observes."""
        weights = self._network.named_parameters()
        return [name for name, weight in weights if weight.requires_grad and not self._watches(weight)]

    def _watches(self, weight: Tensor) -> bool:
        hooked = self._hooked.get(id(weight))
        return hooked is not None and hooked[0]() is weight

    def add(self, weight: Tensor) -> None:
        """Watch a weight, even a frozen one: it may be trained later."""
        if self._watches(weight):
            return
        reference = weakref.ref(weight, partial(self._forget, id(weight)))
        # In a compiled step the hooks are called inside it: they must not be compiled with it.
        reached = torch.compiler.disable(partial(self._reached, reference))  # type: ignore[no-untyped-call]
        frozen = not weight.requires_grad
        try:
            weight.requires_grad_(True)  # only such a tensor accepts a hook, which then stays
        except (RuntimeError, ValueError):
            return  # integers, which never have a gradient, or a lazy weight without a shape
        try:
            self._hooked[id(weight)] = (reference, weight.register_hook(reached))  # type: ignore[no-untyped-call]
        finally:
            weight.requires_grad_(not frozen)

    def _forget(self, key: int, reference: "weakref.ref[Tensor]") -> None:
        if key in self._hooked and self._hooked[key][0] is reference:
            del self._hooked[key]

    def _reached(self, reference: "weakref.ref[Tensor]", gradient: Tensor) -> None:
        weight = reference()
        if self.paused or weight is None:
            return
        try:
            self._note(weight, gradient)
        except Exception as error:
            self._notes.failed("a gradient", error)

    def _note(self, weight: Tensor, gradient: Tensor) -> None:
        number = current()
        running = self._running.get(number)  # one of several: reentrant checkpointing nests one backward in another
        begins = running is None
        if running is None:
            running = self._running[number] = Running()
            # As in DistributedDataParallel: the engine calls back when all of this backward is done.
            engine: Any = torch.autograd.Variable._execution_engine
            ended = torch.compiler.disable(partial(self._finish, number, running))  # type: ignore[no-untyped-call]
            engine.queue_callback(ended)
            self._begun()
        # The weight, not its gradient: a gradient held here would be copied into .grad instead of becoming it.
        makes = weight.grad is None and not weight._post_accumulate_grad_hooks
        if makes:
            running.made.append(weight)
        if begins or not makes:
            running.peaks += peaks(_parts(gradient))
        self._on_gradient(weight, gradient)

    def _finish(self, number: int, running: Running) -> None:
        self._running.pop(number, None)
        grads = [weight.grad for weight in running.made if weight.grad is not None]
        try:
            running.peaks += peaks([part for grad in grads for part in _parts(grad)])
        except Exception as error:
            self._notes.failed("the gradients", error)
        self._ended(number, running.peaks)


@torch.no_grad()
def _parts(gradient: Tensor) -> list[Tensor]:
    """The part of a gradient that is read, as real numbers."""
    values = gradient.detach()
    values = real(values._values() if values.is_sparse else values)
    return [values] if values.numel() <= WHOLE or values.ndim < 2 else [values[0], values[:, 0]]
