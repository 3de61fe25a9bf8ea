"""Calls of GradScaler.scale -> the factor by which the gradients of a backward are too large."""

from typing import Any, Self

from torch import Tensor
from torch.amp.grad_scaler import GradScaler


class Scales:
    """Within the block, remembers the scaler of the last scaled loss; after it ``GradScaler.scale`` is its own again.

    A recording must find the scaler by itself: norms that are 65,536 times too large look like any others.
    """

    def __init__(self) -> None:
        self._scaler: GradScaler | None = None

    def __enter__(self) -> Self:
        self._original = original = GradScaler.scale

        def scale(scaler: GradScaler, outputs: Any) -> Any:
            self._scaler = scaler if scaler.is_enabled() else None
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
