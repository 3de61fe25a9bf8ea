"""The calls of each layer in one step -> its numbers, pooled over them."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Numbers = NDArray[np.float64]


@dataclass(kw_only=True)
class LayerCall:
    """One call of a layer: its response, the gradient that came back, and in which backward."""

    moments: Tensor
    """Mean, std, zero fraction: (3,)."""
    values: int
    channels: int
    """How many of them one position of one example has."""
    statistics: str
    answers: bool
    """Whether a gradient can come back."""
    forward: int
    """Number of the network's forward that it belongs to."""
    backward: int | None = None
    gradient: Tensor | None = None
    """L2 norm, and the share of values that are not zero: (2,)."""


@dataclass(frozen=True, kw_only=True)
class StepStats:
    """The numbers of a step, a row for each layer of the Layout; NaN if a layer took no part."""

    gradients: Numbers
    """(layers, 5), the columns of the frame; without the update, which comes later."""
    responses: Numbers
    """(layers, 3): mean, std, zero fraction, pooled over the uses of the layer."""
    used: NDArray[np.bool_]
    """(layers,): whether there was a response, so that a NaN in it is one of the network."""
    answered: NDArray[np.bool_]
    """(layers,): whether a gradient came back to it."""
    measured: NDArray[np.bool_]
    """(layers,): whether responses are measured at all."""
    weighted: NDArray[np.bool_]
    """(layers,): whether there is a weight that could be read."""
    reached: NDArray[np.bool_]
    """(layers,): whether a gradient came to it and could be read."""
    silent: Numbers
    """(layers,): share of the values of a response whose gradient is exactly zero, as before a ReLU that is off."""
    channels: Numbers
    """(layers,): values of a response at one position."""
    statistics: NDArray[np.str_]
    """(layers,): the statistics of the response, by ``networks.layout.norm_statistics``."""

    def take(self, places: list[int]) -> "StepStats":
        """The layers at ``places``, in their order."""
        return StepStats(**{field.name: getattr(self, field.name)[places] for field in fields(self)})


def pooled(uses: list[list[LayerCall]], each: Numbers) -> Numbers:
    """(layers, 6): gradient norm and rms, mean, std, zero fraction, silent share over all values of all uses.

    ``each`` has a row for each use: mean, std, zero fraction, gradient norm, share of gradients not zero. A variance is
    the mean of the variances plus the variance of the means. Gradients are those of the uses that one came back to.
    """
    rows, first = np.full((len(uses), 6), np.nan), 0
    for place, part in enumerate(uses):
        if part:
            values = np.array([use.values for use in part], dtype=np.float64)
            answered = np.array([use.gradient is not None for use in part])
            with np.errstate(invalid="ignore"):  # infinite minus infinite
                rows[place] = _of_uses(values, answered, each[first : first + len(part)])
        first += len(part)
    return rows


def _of_uses(values: Numbers, answered: NDArray[np.bool_], each: Numbers) -> list[float]:
    """A row of ``pooled`` for the uses of a layer with ``values`` values each; squares of 1e200 never occur."""
    mean, std, zeros, gradient, alive = each.T
    share = values / values.sum()
    norm, reached = np.hypot.reduce(gradient[answered]), values[answered].sum()
    if not answered.any():
        norm = reached = np.nan
    centre = (share * mean).sum()
    silent = 1 - (values * alive)[answered].sum() / reached
    spread = np.hypot.reduce(np.concatenate([np.sqrt(share) * std, np.sqrt(share) * (mean - centre)]))
    at_most_zero = (share * zeros).sum() + 0 * spread  # of NaN it is not known
    return [norm, norm / np.sqrt(reached), centre, spread, at_most_zero, silent]
