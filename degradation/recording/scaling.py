"""Calls of GradScaler.scale -> the factor by which the gradients of a backward are too large."""

from typing import Any, Self

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler


class Scales:
    """Within the block, remembers the scaler of the last scaled loss; after it ``GradScaler.scale`` is its own again.

    A recording must find the scaler by itself: norms that are 65,536 times too large look like any others. While
    ``paused`` a loss is that of another network.
    """

    def __init__(self) -> None:
        self._scaler: GradScaler | None = None
        self._loss: Tensor | None = None
        self.paused = False

    def __enter__(self) -> Self:
        self._original = original = GradScaler.scale

        def scale(scaler: GradScaler, outputs: Any) -> Any:
            self._scaler = scaler if scaler.is_enabled() else None  # one that is not has no factor
            if not self.paused and not torch.compiler.is_compiling():
                self._add(outputs)
            return original(scaler, outputs)

        GradScaler.scale = scale  # type: ignore[assignment, method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        GradScaler.scale = self._original  # type: ignore[method-assign]

    def factor(self) -> float:
        """The factor in force, which changes only after the optimizer's step; 1 without a scaler."""
        return 1.0 if self._scaler is None else float(self._scaler.get_scale())

    def on_device(self) -> Tensor | None:
        """The factor where it lies, so that nothing waits for it; None without a scaler."""
        return None if self._scaler is None else self._scaler._scale

    @torch.no_grad()
    def _add(self, outputs: Any) -> None:
        if isinstance(outputs, list | tuple):
            for output in outputs:
                self._add(output)
        elif isinstance(outputs, Tensor):
            loss = outputs.detach().sum(dtype=torch.float32)
            self._loss = loss if self._loss is None else self._loss + loss.to(self._loss.device)

    def loss(self) -> Tensor | None:
        """The sum of the losses that were scaled since the last call, finite where all are; None without one."""
        loss, self._loss = self._loss, None
        return loss
