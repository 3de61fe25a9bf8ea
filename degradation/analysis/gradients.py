"""The gradients frame -> the factor by which the backward signal changes across a network, and when."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from degradation.analysis.contrasts import Quantity, by_run, levels, measured_estimates
from degradation.analysis.estimates import Estimate
from degradation.analysis.runs import Runs
from degradation.study.results import Results

READ = ("step", "layer", "name", "stage", "response_grad_rms")
Numbers = np.ndarray[Any, Any]

VANISHING, EXPLODING = 0.1, 10.0
DEFINITION = (
    "The factor is the gradient at the first layer over that at the last one, from the slope of its logarithm "
    "against the layer's number. The gradient is the RMS over the elements of a layer's response, not the norm of a "
    "weight: weights of different shape and scale are not comparable. One slope is fitted to all layers, each relative "
    "to the mean of the layers of its stage and position in the block, so that changes of shape do not count. "
    f"Below {VANISHING:g} the gradient vanishes toward the input, above {EXPLODING:g} it explodes."
)
SMALLEST, LARGEST = "smallest after step 0", "largest after step 0"


def gradients(results: Results, runs: Runs) -> Iterator[Estimate]:
    """The factor of each network at step 0, the smallest and largest of all later measured steps, and the last.

    The extremes are taken within each run, so that a mean cannot hide a gradient that vanishes for a while.
    """
    frame = results.frame("gradients", READ)
    if frame.empty:
        return
    by_step = factors(frame)
    finished = by_step[by_step["run_id"].isin(list(runs.last_steps))]
    later = finished[finished["step"] > 0].groupby("run_id", observed=True)["factor"]
    # A run with a missing value may be unhealthy: it gets no extreme.
    factors_at = {
        ("0", "step 0"): by_step[by_step["step"] == 0].set_index("run_id")["factor"],
        (SMALLEST, SMALLEST): later.agg(lambda factor: factor.min(skipna=False)),
        (LARGEST, LARGEST): later.agg(lambda factor: factor.max(skipna=False)),
        ("last", "last step"): runs.at_last_step(finished).set_index("run_id")["factor"],
    }
    for (step, suffix), numbers in factors_at.items():
        context = {"step": step, "gradient": "response_grad_rms"}
        quantity = Quantity(unit="factor", values=by_run(numbers), context=context)
        for level in measured_estimates(levels(runs, quantity, "gradient-slope")):
            yield replace(level, label=f"{level.label}, {suffix}")


def factors(frame: pd.DataFrame) -> pd.DataFrame:
    """run_id, step -> the factor across the network, see ``DEFINITION``; none if a stage has one block (depth 8).

    NaN if a gradient is zero or infinite.
    """
    rows = frame[frame["response_grad_rms"].notna()]
    # 6n+1 layers, n blocks per stage: one block gives no trend along a stage.
    rows = rows[rows.groupby("run_id", observed=True)["layer"].transform("max") > 7]
    if rows.empty:
        return pd.DataFrame(columns=["run_id", "step", "factor"])
    with np.errstate(divide="ignore", invalid="ignore"):
        logarithm = np.log10(rows["response_grad_rms"].to_numpy())
        logarithm[np.isneginf(logarithm)] = np.nan
        networks = rows.groupby(["run_id", "step"], observed=True)
        network, layer = networks.ngroup().to_numpy(), rows["layer"].to_numpy(dtype=float)
        shape = _shapes(rows, network)
        x, y = layer - _means(shape, layer)[shape], logarithm - _means(shape, logarithm)[shape]
        slope = np.bincount(network, x * y) / np.bincount(network, x * x)
        factor = 10.0 ** (-slope * (networks["layer"].max().to_numpy() - 1))
    return networks.size().index.to_frame(index=False).assign(factor=factor)


def _shapes(rows: pd.DataFrame, network: Numbers) -> Numbers:
    """The number of each row's group: its network at its step, and in it the stage and the place in the block."""
    names = rows["name"].astype("category").map(lambda name: name.rpartition(".")[2])  # layer1.0.conv2: conv2
    places, kinds = pd.factorize(names)
    stages = int(rows["stage"].max()) + 1
    return np.asarray(pd.factorize((network * stages + rows["stage"].to_numpy()) * len(kinds) + places)[0])


def _means(groups: Numbers, values: Numbers) -> Numbers:
    """The mean of each group; missing if one of its values is."""
    return np.asarray(np.bincount(groups, values) / np.bincount(groups))
