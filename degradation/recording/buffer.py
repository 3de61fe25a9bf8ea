"""The measured steps of a recording -> frames; of bounded size for any length of the loop."""

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

LIMIT = 1000  # most measured steps kept


@dataclass(frozen=True, kw_only=True)
class StepMeta:
    """Facts of a measured step other than its numbers."""

    examples: int
    empty: bool
    """Whether the batch was empty: its gradients are zero and meaningless."""
    statistics: list[str]
    """One entry for each layer with a response."""
    silent: Numbers
    """(layers,), as in ``StepStats``."""
    channels: Numbers
    """(layers,), as in ``StepStats``."""


def thinned(requested: int, every: int) -> list[str]:
    """A line if fewer steps are kept than requested."""
    line = (
        f"at most {LIMIT:,} measured steps are kept: every={requested} became every={every}, "
        "and of earlier steps only its multiples are kept"
    )
    return [] if every == requested else [line]


class StepBuffer:
    """The numbers of the measured steps, in the order of a fixed Layout."""

    def __init__(self, probes: Sequence[Probe], layout: Layout) -> None:
        self.layout, self._probes = layout, tuple(probes)
        self._answering = [place for place, layer in enumerate(layout.layers) if layer.response is not None]
        self._readings = Readings(probes, layout)
        self._meta: dict[int, StepMeta] = {}
        self._idle: set[str] | None = None

    def begin(self, step: int, examples: int, stats: StepStats, idle: set[str], *, empty: bool) -> None:
        """Start a measured step, which ``add`` completes; ``idle`` are the layers that took no part in it.

        ``empty``: all its responses had no values.
        """
        if stats.used.any():  # else the forward ran without hooks
            self._idle = idle if self._idle is None else self._idle & idle
        statistics = [str(word) for word in stats.statistics[self._answering]]
        self._meta[step] = StepMeta(
            examples=examples, empty=empty, statistics=statistics, silent=stats.silent, channels=stats.channels
        )

    def add(self, step: int, stats: StepStats, every: int) -> int:
        """Add the numbers of a step that ``begin`` started; return ``every``, doubled at the limit."""
        parts = {"gradients": stats.gradients, "responses": stats.responses[self._answering]}
        flat = np.concatenate([parts[probe.frame].reshape(-1) for probe in self._probes])
        self._readings.add(step, torch.from_numpy(flat))
        if len(self._meta) < LIMIT:
            return every
        tensors = self._readings.tensors()
        multiples = tensors["readings.steps"] % (2 * every) == 0
        self._readings.restore({name: tensor[multiples] for name, tensor in tensors.items()})
        self._meta = {step: meta for step, meta in self._meta.items() if step % (2 * every) == 0}
        return 2 * every

    @property
    def idle(self) -> list[str]:
        """The layers that took no part in any measured step, kept or not, in their order."""
        return [layer.name for layer in self.layout.layers if layer.name in (self._idle or ())]

    @property
    def steps(self) -> list[int]:
        """The steps in the frames."""
        steps: list[int] = self._readings.tensors()["readings.steps"].tolist()
        return steps

    @property
    def frames(self) -> dict[str, pd.DataFrame]:
        """The frame of each probe, by name."""
        metas = [self._meta[step] for step in self.steps]
        if not metas:  # the first measured step is complete only when the next one starts
            return {probe.frame: schemas.frame(probe.frame, []) for probe in self._probes}
        statistics = [word for meta in metas for word in meta.statistics]
        examples = np.repeat([meta.examples for meta in metas], len(self._answering))
        return self._readings.frames({"split": "train_batch", "statistics": statistics, "examples": examples})

    @property
    def profiles(self) -> dict[int, Profile]:
        """Input of a summary: the numbers of each step."""
        metas = {step: self._meta[step] for step in self.steps}
        names = [layer.name for layer in self.layout.layers]
        silent, channels = [meta.silent for meta in metas.values()], [meta.channels for meta in metas.values()]
        of_steps = zip(metas, profiles(self.frames, names, silent, channels), strict=True)
        return {step: profile.silenced() if metas[step].empty else profile for step, profile in of_steps}
