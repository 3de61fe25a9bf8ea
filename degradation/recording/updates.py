"""The weights at a measured step and before the next backward -> the size of their updates."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module

from degradation.networks.layout import Layer
from degradation.probes import GRADIENTS
from degradation.recording.following import weight_at
from degradation.recording.notes import Notes
from degradation.recording.tensors import norm_of, real, version_of
from degradation.recording.uses import Numbers, StepStats
from degradation.recording.weights import WeightCopy, Weights

UPDATE = GRADIENTS.columns.index("update_norm")
NORM = GRADIENTS.columns.index("weight_norm")


class Updates:
    """Copies of the weights at one measured step, from ``hold`` to ``finish_step``."""

    def __init__(self, network: Module, notes: Notes) -> None:
        self._network, self._notes = network, notes
        self._step: tuple[int, StepStats] | None = None
        self._held: dict[int, tuple[str, WeightCopy]] = {}
        """Of each place in ``StepStats`` the layer and its weight."""
        self._layers: dict[str, Layer] = {}
        self._norms: Numbers | None = None
        """Of the weights at the measured step before."""
        self._moved = False
        """Whether any weight has ever moved."""
        self._still: list[int] = []

    def hold(self, step: int, stats: StepStats, layers: Sequence[Layer], weights: Weights) -> None:
        """Keep the weights of a measured step as they were before its backward."""
        self._step, self._layers = (step, stats), {layer.name: layer for layer in layers}
        copies = [(place, layer.name, weights.before(layer.name)) for place, layer in enumerate(layers)]
        self._held = {place: (name, copy) for place, name, copy in copies if copy is not None}
        norms = stats.gradients[:, NORM].copy()
        before = norms if self._norms is None else self._norms
        self._moved = self._moved or not np.array_equal(norms, before, equal_nan=True)
        self._norms = norms

    def finish_step(self, *, moved: bool, ends: bool) -> tuple[int, StepStats] | None:
        """The step of ``hold``, with its updates if they ``moved`` the weights; None if there is none.

        An update is NaN if no weight was written to, or if the weight was replaced. ``ends``: the loop is over,
        so an update need not come.
        """
        step, held = self._step, self._held
        self._step, self._held = None, {}
        if step is not None and moved and held:
            try:
                self._measure(*step, held, ends)
            except Exception as error:
                self._notes.failed("an update", error)
        return step

    @torch.no_grad()
    def _measure(self, step: int, stats: StepStats, held: Mapping[int, tuple[str, WeightCopy]], ends: bool) -> None:
        now = {name: weight_at(self._network, self._layers[name]) for name, _ in held.values()}
        changed = [name for name, before in held.values() if now[name] is not before.weight]
        replaced = [name for name in changed if now[name] is not None]  # removed weights are reported by the next step
        if replaced:
            self._notes.add("no update_norm of {}: the weight was replaced", replaced)
        same = {place: before for place, (name, before) in held.items() if name not in changed}
        if not same:
            return
        distances = torch.stack([_distance(before).cpu() for before in same.values()])
        if distances.any() or any(version_of(before.weight) != before.version for before in same.values()):
            stats.gradients[list(same), UPDATE] = distances.numpy()
            self._moved = True
        elif not ends:
            self._still.append(step)

    @property
    def unmoved(self) -> int:
        """The measured steps without an update, if no step had one."""
        return 0 if self._moved else len(self._still)

    def lines(self) -> list[str]:
        """A line if some updates are missing."""
        if not self._still or not self._moved:
            return []
        count, first = len(self._still), self._still[0]
        steps = f"at step {first:,}" if count == 1 else f"at {count:,} measured steps, the first is {first:,}"
        return [
            f"no update_norm {steps}: no weight changed before the next backward, as when gradients accumulate "
            "or an update is skipped"
        ]


def _distance(before: WeightCopy) -> Tensor:
    now = before.weight.detach().to(before.copy.device)
    return norm_of(real(now) - real(before.copy))
