"""What the probes measured, one flat tensor a step -> frames."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from degradation.frames import schemas
from degradation.networks.layout import Layout
from degradation.probes.magnitudes import chosen, widened
from degradation.probes.probe import Measurement, Probe

Gather = Callable[[Tensor], Tensor]


class Readings:
    """The numbers of every measured step of a run. They stay numbers until the run ends: a row of each is 4 bytes."""

    def __init__(self, probes: Sequence[Probe], layout: Layout) -> None:
        self.probes, self.layout = tuple(probes), layout
        self._entries = {probe.frame: probe.entries(layout) for probe in self.probes}
        self._steps: list[int] = []
        self._numbers: list[Tensor] = []

    @staticmethod
    def read(probes: Sequence[Probe], seen: Measurement) -> Tensor:
        """What the probes make of a measurement, end to end in one float32 tensor on its device."""
        return torch.cat([probe.measure(seen)[:, : len(probe.columns)].reshape(-1) for probe in probes]).float()

    @staticmethod
    def read_parts(probes: Sequence[Probe], seen: Sequence[Measurement], gather: Gather) -> Tensor:
        """The same of a batch measured in equal parts; ``gather`` adds those of other processes, (parts, ...) each."""

        def read(probe: Probe) -> Tensor:
            parts = gather(torch.stack([probe.measure(part) for part in seen]))
            # Pooling squares them again.
            pooled = chosen(probe.pool(parts.float()), probe.pool(widened(parts)))
            return pooled[:, : len(probe.columns)].reshape(-1)

        return torch.cat([read(probe) for probe in probes]).float()

    def add(self, step: int, numbers: Tensor) -> None:
        """Keep what ``read`` returned: the one transfer of a measured step to the host."""
        self._steps.append(step)
        self._numbers.append(numbers.cpu().clone())

    def tensors(self) -> dict[str, Tensor]:
        """For a checkpoint: the steps, and (steps, numbers)."""
        numbers = torch.stack(self._numbers) if self._numbers else torch.zeros(0, 0)
        return {"readings.steps": torch.tensor(self._steps, dtype=torch.int64), "readings.numbers": numbers}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what ``tensors`` gave."""
        self._steps = tensors["readings.steps"].tolist()
        self._numbers = list(tensors["readings.numbers"].unbind())

    def frames(self, constants: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
        """The frame of each probe, by step and in it by entry; ``constants`` fill further columns."""
        numbers = torch.stack(self._numbers).numpy() if self._numbers else np.zeros((0, 0), dtype=np.float32)
        made, first = {}, 0
        for probe in self.probes:
            width = len(self._entries[probe.frame]) * len(probe.columns)
            part = numbers[:, first : first + width].reshape(-1, len(probe.columns))
            made[probe.frame] = self._frame(probe, part, constants)
            first += width
        return made

    def _frame(self, probe: Probe, numbers: np.ndarray, constants: Mapping[str, Any]) -> pd.DataFrame:
        entries, schema = self._entries[probe.frame], schemas.SCHEMAS[probe.frame]
        columns: dict[str, Any] = {name: value for name, value in constants.items() if name in schema}
        columns["step"] = np.repeat(self._steps, len(entries))
        for name in entries[0] if entries else ("block", "name", "stage"):
            columns[name] = [entry[name] for entry in entries] * len(self._steps)
        measured = dict(zip(probe.columns, numbers.T.astype(np.float64), strict=True))
        return schemas.table(probe.frame, columns | measured)
