"""The measured steps of a recording -> frames; bounded, however long the loop."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from degradation.frames import schemas
from degradation.networks.layout import Layout
from degradation.probes import Probe, Readings
from degradation.recording.diagnosis import Profile, profiles
from degradation.recording.uses import Numbers, StepStats

LIMIT = 1000  # measured steps kept


@dataclass(frozen=True, kw_only=True)
class StepMeta:
    """What is kept of a measured step beside its numbers."""

    examples: int
    empty: bool
    """Whether the batch was: its gradients are zero, and say nothing."""
    statistics: list[str]
    """Of each layer that has a response."""
    silent: Numbers
    """(layers,), as in ``StepStats``."""
    channels: Numbers
    """(layers,), as in ``StepStats``."""


def thinned(asked: int, every: int) -> list[str]:
    """That fewer steps are kept than were asked for, where it is so."""
    if every == asked:
        return []
    return [
        f"{LIMIT:,} measured steps are kept at most: every={asked} became every={every}, "
        "and of those measured before only its multiples are kept"
    ]


class StepBuffer:
    """The numbers of the measured steps, in the order of a Layout that does not change any more."""

    def __init__(self, probes: Sequence[Probe], layout: Layout) -> None:
        self.layout, self._probes = layout, tuple(probes)
        self._answering = [place for place, layer in enumerate(layout.layers) if layer.response is not None]
        self._readings = Readings(probes, layout)
        self._beside: dict[int, StepMeta] = {}
        self._idle: set[str] | None = None

    def begin(self, step: int, examples: int, stats: StepStats, idle: set[str], *, empty: bool) -> None:
        """A measured step, whose numbers ``add`` completes, and the layers that took no part in it.

        ``empty``: it had no response with values, and one without.
        """
        if stats.used.any():  # else the forward ran where nothing is heard
            self._idle = idle if self._idle is None else self._idle & idle
        statistics = [str(word) for word in stats.statistics[self._answering]]
        self._beside[step] = StepMeta(
            examples=examples, empty=empty, statistics=statistics, silent=stats.silent, channels=stats.channels
        )

    def add(self, step: int, stats: StepStats, every: int) -> int:
        """The numbers of a step that ``begin`` began; returns ``every``, doubled where the bound is reached."""
        parts = {"gradients": stats.gradients, "responses": stats.responses[self._answering]}
        flat = np.concatenate([parts[probe.frame].reshape(-1) for probe in self._probes])
        self._readings.add(step, torch.from_numpy(flat))
        if len(self._beside) < LIMIT:
            return every
        tensors = self._readings.tensors()
        kept = tensors["readings.steps"] % (2 * every) == 0
        self._readings.restore({name: tensor[kept] for name, tensor in tensors.items()})
        self._beside = {step: beside for step, beside in self._beside.items() if step % (2 * every) == 0}
        return 2 * every

    @property
    def idle(self) -> list[str]:
        """The layers that took no part in any measured step, in their order; also in those that are not kept."""
        return [layer.name for layer in self.layout.layers if layer.name in (self._idle or ())]

    @property
    def steps(self) -> list[int]:
        """The steps that the frames hold."""
        steps: list[int] = self._readings.tensors()["readings.steps"].tolist()
        return steps

    @property
    def frames(self) -> dict[str, pd.DataFrame]:
        """The frame of each probe, by name."""
        beside = [self._beside[step] for step in self.steps]
        constants = {
            "split": "train_batch",
            "statistics": [word for one in beside for word in one.statistics],
            "examples": np.repeat([one.examples for one in beside], len(self._answering)),
        }
        if not beside:  # the first measured step is not complete before the next one begins
            return {probe.frame: schemas.frame(probe.frame, []) for probe in self._probes}
        return self._readings.frames(constants)

    @property
    def profiles(self) -> dict[int, Profile]:
        """What a summary judges: the numbers of each step."""
        steps = self.steps
        names = [layer.name for layer in self.layout.layers]
        beside = [self._beside[step] for step in steps]
        found = profiles(self.frames, names, [one.silent for one in beside], [one.channels for one in beside])
        return {
            step: profile.silenced() if one.empty else profile
            for step, profile, one in zip(steps, found, beside, strict=True)
        }
