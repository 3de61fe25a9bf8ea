"""Readings of the probes, one flat tensor per measured step -> frames."""

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
    """The numbers of every measured step of a run, kept as float32 until the run ends."""

    def __init__(self, probes: Sequence[Probe], layout: Layout) -> None:
        self.probes, self.layout = tuple(probes), layout
        self._entries = {probe.frame: probe.entries(layout) for probe in self.probes}
        self._steps: list[int] = []
        self._numbers: list[Tensor] = []

    @staticmethod
    def read(probes: Sequence[Probe], measurement: Measurement) -> Tensor:
        """The probes' readings of a measurement, concatenated in one float32 tensor on its device."""
        return torch.cat([probe.measure(measurement)[:, : len(probe.columns)].reshape(-1) for probe in probes]).float()

    @staticmethod
    def read_parts(probes: Sequence[Probe], measurements: Sequence[Measurement], gather: Gather) -> Tensor:
        """The readings of a batch measured in equal parts; ``gather`` adds the parts of other processes."""

        def read(probe: Probe) -> Tensor:
            parts = gather(torch.stack([probe.measure(part) for part in measurements]))
            # Pooling squares them again.
            pooled = chosen(probe.pool(parts.float()), probe.pool(widened(parts)))
            return pooled[:, : len(probe.columns)].reshape(-1)

        return torch.cat([read(probe) for probe in probes]).float()

    def add(self, step: int, numbers: Tensor) -> None:
        """Keep the result of ``read``: the only transfer of a measured step to the host."""
        self._steps.append(step)
        self._numbers.append(numbers.cpu().clone())

    def tensors(self) -> dict[str, Tensor]:
        """Tensors for a checkpoint: the steps, and (steps, numbers)."""
        numbers = torch.stack(self._numbers) if self._numbers else torch.zeros(0, 0)
        return {"readings.steps": torch.tensor(self._steps, dtype=torch.int64), "readings.numbers": numbers}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the result of ``tensors``."""
        self._steps = tensors["readings.steps"].tolist()
        self._numbers = list(tensors["readings.numbers"].unbind())

    def frames(self, constants: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
        """The frame of each probe, ordered by step and entry; ``constants`` fill further columns."""
        numbers = self.tensors()["readings.numbers"].numpy()
        frames, first = {}, 0
        for probe in self.probes:
            width = len(self._entries[probe.frame]) * len(probe.columns)
            part = numbers[:, first : first + width].reshape(-1, len(probe.columns))
            frames[probe.frame] = self._frame(probe, part, constants)
            first += width
        return frames

    def _frame(self, probe: Probe, numbers: np.ndarray, constants: Mapping[str, Any]) -> pd.DataFrame:
        entries, schema = self._entries[probe.frame], schemas.SCHEMAS[probe.frame]
        columns: dict[str, Any] = {name: value for name, value in constants.items() if name in schema}
        columns["step"] = np.repeat(self._steps, len(entries))
        for name in entries[0] if entries else ("block", "name", "stage"):
            columns[name] = [entry[name] for entry in entries] * len(self._steps)
        measured = dict(zip(probe.columns, numbers.T.astype(np.float64), strict=True))
        return schemas.table(probe.frame, columns | measured)
