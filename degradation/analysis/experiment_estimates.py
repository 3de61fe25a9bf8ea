"""The frames identity, shatter, paths, landscape, curvature and signal -> the estimates of the claims on them."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from degradation.analysis import contrasts
from degradation.analysis.contrasts import Quantity, across_kinds, by_run, levels, measured_estimates
from degradation.analysis.estimates import Estimate
from degradation.analysis.runs import Runs
from degradation.study.results import Results

NEAR = 1 / 16
"""Share of the distance between two images below which inputs are neighbouring; reached from ``--points 4`` on."""
HIGHEST = 1e4
"""Nats: a higher or non-finite loss counts as this value, as in the figure."""
STATES = {"initial": "at initialization", "trained": "trained"}
"""Source of the rows -> label of the estimate."""
SIGNALS: dict[str, tuple[str, str, str]] = {
    "jacobian-condition": ("isometry-effect", "factor", "condition of the Jacobian"),
    "gradient-cosine-least": ("confusion-effect", "correlation", "least cosine of gradients"),
    "cka": ("similarity-effect", "correlation", "mean CKA of layers"),
}
"""Quantity of the frame signal -> name, unit and label of the estimate."""


def identity(results: Results, runs: Runs) -> Iterator[Estimate]:
    """``branch-ratio-gap`` (factor): |F(x)| / |shortcut(x)|, mean over blocks, deep over shallow.

    ``branch-ratio-exponent``: the power of the depth with which it changes between the two.
    """
    frame = results["identity"]
    if len(frame):
        context = {"ratio": "norm of the branch over that of the shortcut, mean over blocks"}
        ratios = by_run(frame.groupby("run_id")["ratio"].mean())
        quantity = Quantity(unit="factor", values=ratios, context=context)
        yield from measured_estimates(contrasts.across_depths(runs, quantity, "branch-ratio-gap"))
        yield from measured_estimates(contrasts.exponents(runs, quantity, "branch-ratio-exponent"))


def shatter(results: Results, runs: Runs) -> Iterator[Estimate]:
    """``gradient-correlation`` of each network, ``shatter-effect`` plain minus residual: at initialization, trained.

    The correlation of input gradients at inputs within ``NEAR`` of each other; none if no two inputs are.
    """
    frame = results["shatter"]
    near = frame[np.isclose(frame["distance"], NEAR)] if len(frame) else frame
    quantities = [(_correlations(near, source), suffix) for source, suffix in STATES.items() if len(near)]
    for quantity, suffix in quantities:
        yield from _labelled(levels(runs, quantity, "gradient-correlation"), suffix)
    for quantity, suffix in quantities:
        yield from _labelled(across_kinds(runs, quantity, "shatter-effect"), suffix)


def _correlations(near: pd.DataFrame, source: str) -> Quantity:
    correlations = near[near["source"] == source].set_index("run_id")["correlation"]
    context = {"source": source, "distance": f"{NEAR:g} of that between two images"}
    return Quantity(unit="correlation", values=by_run(correlations), context=context)


def paths(results: Results, runs: Runs) -> Iterator[Estimate]:
    """``path-length`` of each residual network (percent): mean length of paths by gradient, over that of all paths."""
    frame = results["paths"]
    rows = frame[frame["network"] == "residual"] if len(frame) else frame
    if len(rows):
        context = {"length": "mean over paths weighted by their gradient norm, in percent of that of all paths"}
        quantity = Quantity(unit="percent", values=path_lengths(rows), context=context)
        yield from measured_estimates(levels(runs, quantity, "path-length"))


def path_lengths(rows: pd.DataFrame) -> dict[str, float]:
    """run_id -> mean path length weighted by gradient norm, over half of the blocks.

    The norm of one length is the geometric mean over its random paths, each weighted by C(blocks, length).
    """
    logs = rows.assign(log=np.log(rows["gradient_norm"])).groupby(["run_id", "length"])
    lengths = logs.agg(log=("log", "mean"), share=("share", "first"), blocks=("blocks", "first")).reset_index()
    weight = np.exp(lengths["log"]) * lengths["share"]
    runs = lengths.assign(weight=weight, weighted=weight * lengths["length"]).groupby("run_id")
    return by_run(runs["weighted"].sum() / runs["weight"].sum() / (runs["blocks"].first() / 2))


def landscape(results: Results, runs: Runs) -> Iterator[Estimate]:
    """``roughness`` of each network's surface, ``roughness-effect`` plain minus residual (percent)."""
    frame = results["landscape"]
    surfaces = frame[frame["cut"] == "surface"] if len(frame) else frame
    if len(surfaces):
        values = {str(run_id): roughness(rows) for run_id, rows in surfaces.groupby("run_id")}
        context = {"statistics": "running", "roughness": "ups and downs of the log loss beyond those of one valley"}
        quantity = Quantity(unit="percent", values=values, context=context)
        yield from measured_estimates(levels(runs, quantity, "roughness"))
        yield from measured_estimates(across_kinds(runs, quantity, "roughness-effect"))


def roughness(rows: pd.DataFrame) -> float:
    """How much more the loss goes up and down along the rows and columns of a surface than a single valley; 0: none.

    Of the logarithm of the loss: the sum of all steps, over what it takes to fall from one end to the least value and
    to rise to the other end, minus 1. The grid's spacing is the shortest bump seen: compare equal grids only.
    """
    table = rows.pivot(index="y", columns="x", values="loss").to_numpy()
    heights = np.log(np.nan_to_num(table, nan=HIGHEST, posinf=HIGHEST).clip(1e-12, HIGHEST))
    steps = valleys = 0.0
    for lines in (heights, heights.T):
        steps += float(np.abs(np.diff(lines, axis=1)).sum())
        valleys += float((lines[:, 0] + lines[:, -1] - 2 * lines.min(axis=1)).sum())
    return steps / valleys - 1 if valleys > 0 else float("nan")


def curvature(results: Results, runs: Runs) -> Iterator[Estimate]:
    """``curvature-effect`` (factor), plain over residual: of the Hessian's trace, and of its largest eigenvalue."""
    frame = results["curvature"]
    if frame.empty:
        return
    trace = frame[frame["quantity"] == "trace"].groupby("run_id")["value"].mean()
    top = frame[frame["quantity"] == "ritz"].groupby("run_id")["value"].max()
    for name, suffix, numbers in (("trace", "trace", trace), ("top", "largest eigenvalue", top)):
        context = {"quantity": name, "statistics": "running"}
        quantity = Quantity(unit="factor", values=by_run(numbers), context=context)
        yield from _labelled(across_kinds(runs, quantity, "curvature-effect"), suffix)


def signal(results: Results, runs: Runs) -> Iterator[Estimate]:
    """Plain against residual, at initialization and trained.

    ``isometry-effect`` (factor): the condition of the input-output Jacobian. ``confusion-effect`` (correlation): the
    least cosine of two images' loss gradients. ``similarity-effect`` (correlation): mean CKA of every two layers.
    """
    frame = results["signal"]
    if frame.empty:
        return
    pairs = frame[(frame["quantity"] != "cka") | (frame["index"] != frame["other"])]
    means = pairs.dropna(subset="value").groupby(["state", "quantity", "run_id"])["value"].mean()
    for quantity, (name, unit, label) in SIGNALS.items():
        for state, suffix in STATES.items():
            if (state, quantity) in means.index:
                context = {"state": state, "quantity": quantity}
                values = Quantity(unit=unit, values=by_run(means[state, quantity]), context=context)
                yield from _labelled(across_kinds(runs, values, name), f"{label}, {suffix}")


def _labelled(estimates: Iterable[Estimate], suffix: str) -> Iterator[Estimate]:
    """The measured estimates, with ``suffix`` added to each label to distinguish them."""
    return (replace(each, label=f"{each.label}, {suffix}") for each in measured_estimates(estimates))
