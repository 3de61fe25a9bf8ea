"""Calls of GradScaler.scale -> the loss scale of the gradients of a backward."""

from functools import wraps
from typing import Any, Self

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from degradation.probes.magnitudes import all_finite, peaks
from degradation.recording.notes import Notes
from degradation.recording.patches import Patch


class LossScale:
    """Within the block, remembers the scaler of the last scaled loss; at its end ``GradScaler.scale`` is restored.

    A recording must detect the scaler: norms that are 65,536 times too large look like any others. While
    ``paused`` a loss belongs to another network.
    """

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._scaler: GradScaler | None = None
        self._finite: Tensor | None = None
        self.paused = False

    def __enter__(self) -> Self:
        _listening.append(self)
        _SCALE.begin()
        return self

    def __exit__(self, *_: object) -> None:
        _SCALE.end()
        _listening.remove(self)

    def scaled(self, scaler: GradScaler, outputs: Any) -> None:
        """Called with a loss before it is scaled."""
        self._scaler = scaler if scaler.is_enabled() else None  # a disabled scaler has no factor
        if not self.paused and not torch.compiler.is_compiling():
            try:
                self._add(outputs)
            except Exception as error:
                self._notes.failed("a scaled loss", error)

    def factor(self) -> float:
        """The current factor, which changes only after the optimizer's step; 1 without a scaler."""
        return 1.0 if self._scaler is None else float(self._scaler.get_scale())

    def on_device(self) -> Tensor | None:
        """The factor on its device, so that nothing waits for it; None without a scaler."""
        return None if self._scaler is None else self._scaler._scale

    @torch.no_grad()
    def _add(self, outputs: Any) -> None:
        if isinstance(outputs, list | tuple):
            for output in outputs:
                self._add(output)
        elif isinstance(outputs, Tensor):
            finite = all_finite(peaks([outputs.detach()]))
            self._finite = finite if self._finite is None else finite & self._finite.to(finite.device)

    def finite(self) -> Tensor | None:
        """Whether all losses scaled since the last call are finite; None without one."""
        finite, self._finite = self._finite, None
        return finite


_listening: list[LossScale] = []


def _wrapped(original: Any) -> Any:
    @wraps(original)
    def scale(scaler: GradScaler, outputs: Any) -> Any:
        for each in tuple(_listening):
            each.scaled(scaler, outputs)
        return original(scaler, outputs)

    return scale


_SCALE = Patch(GradScaler, "scale", _wrapped)
