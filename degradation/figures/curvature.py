"""The curvature frame -> top eigenvalue and trace of the Hessian against depth, and its spectral density."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from degradation.figures import layout, style
from degradation.figures.tidy import SERIES, Kind, kinds, of_kind, over_seeds, series, study_frame
from degradation.study.results import Results

NUMBERS = {"top": "largest eigenvalue", "trace": "trace", "negative": "- least / largest eigenvalue"}
BINS = 24
OFFSET = 0.8  # offset in layers between the points of two kinds
ROUNDING = 1e-6  # relative, of products in single precision
DECADE = 10  # a smaller range has too few ticks on a logarithmic axis, and looks linear
LOWEST = 1e-7  # of the share of eigenvalues that is drawn


def curvature_data(frame: pd.DataFrame) -> pd.DataFrame:
    """SERIES, quantity, at -> mean, low and high over seeds.

    ``top``: largest Ritz value of a run's draws; ``trace``: mean of its estimates; ``negative``: minus the least Ritz
    value over the largest, 0 if none is negative; ``density``: share of the eigenvalues in the bin around ``at``
    (asinh-spaced), from the weights of the Ritz values. ``at`` is 0 for all but the density.
    """
    ritz, trace = frame[frame["quantity"] == "ritz"], frame[frame["quantity"] == "trace"]
    keys = [*SERIES, "run_id"]
    ends = ritz.groupby(keys, observed=True)["value"].agg(["max", "min"])
    traces = trace.groupby(keys, observed=True)["value"].mean()
    numbers = {"top": ends["max"], "trace": traces, "negative": (-ends["min"] / ends["max"]).clip(lower=0)}
    parts = [values.rename("value").reset_index().assign(quantity=name, at=0.0) for name, values in numbers.items()]
    return over_seeds(pd.concat([*parts, _density(ritz, keys)]), "value", ["quantity", "at"])


def _density(ritz: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Share of the eigenvalues in each bin, mean over a run's draws."""
    stretched = np.arcsinh(10 * ritz["value"])
    edges = np.linspace(stretched.min(), stretched.max(), BINS + 1)
    middles = np.sinh((edges[1:] + edges[:-1]) / 2) / 10
    places = np.clip(np.searchsorted(edges, stretched, side="right") - 1, 0, BINS - 1)
    weights = ritz["weight"] / ritz.groupby("run_id")["draw"].transform("nunique")
    binned = ritz.assign(at=middles[places], value=weights, quantity="density")
    sums = binned.groupby([*keys, "quantity", "at"], observed=True)["value"].sum()
    by_bin = sums.unstack("at").fillna(0.0).reset_index()  # a bin without a Ritz value has no share
    return by_bin.melt([*keys, "quantity"], var_name="at")


@style.in_style
def curvature(results: Results) -> tuple[Figure, pd.DataFrame]:
    """Draw above largest eigenvalue, trace and negative part against depth; below the density, a panel each network.

    Raises UserError if the experiment ``curvature`` was not run.
    """
    frame = study_frame(results, "curvature")
    data = curvature_data(frame)
    panels = kinds(data)
    key = style.network_key(data, results.study.depths, mixed=True)
    title = "Hessian of the training loss at the trained weights"
    figure = layout.page(results, title, _notes(frame, data), (9.8, 5.0), key, experiment=True)
    upper, lower = figure.subfigures(2, 1, squeeze=False)[:, 0]
    for axes, (quantity, label) in zip(upper.subplots(1, len(NUMBERS)), NUMBERS.items(), strict=True):
        for place, kind in enumerate(panels):
            part = of_kind(data, kind)
            _by_depth(axes, part[part["quantity"] == quantity], kind, OFFSET * (place - (len(panels) - 1) / 2))
        low, high = data.loc[data["quantity"] == quantity, ["low", "high"]].agg({"low": "min", "high": "max"})
        if low > 0 and high > DECADE * low:
            axes.set_yscale("log")
            style.plain_numbers(axes, *axes.get_ylim())
        axes.set_title(label, fontweight="bold")
        axes.set_xticks(sorted(data["depth"].unique()))
        axes.set_xlabel("depth")
    row = lower.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, kind in zip(row, panels, strict=True):
        _densities(axes, of_kind(data, kind), results)
        style.title_of_kind(axes, kind)
    row[0].set_ylabel("share of eigenvalues in a bin")
    return figure, data


def _by_depth(axes: Axes, data: pd.DataFrame, kind: Kind, offset: float) -> None:
    rows = data.groupby("depth")[["mean", "low", "high"]].mean().reset_index()
    # A mean of equal seeds may be an ulp beyond them, and matplotlib draws no negative bar.
    error = [(rows["mean"] - rows["low"]).clip(lower=0), (rows["high"] - rows["mean"]).clip(lower=0)]
    look = {"color": style.COLOURS[kind.network], "linestyle": style.DASHES[kind.shortcut]}
    axes.errorbar(rows["depth"] + offset, rows["mean"], error, marker="o", markersize=3, capsize=2, **look)
    style.draw_grid(axes)


def _densities(axes: Axes, data: pd.DataFrame, results: Results) -> None:
    for key, rows in series(data[(data["quantity"] == "density") & (data["mean"] > 0)]):
        look = style.line_style(key, results.study.depths, mixed=True)
        axes.plot(rows["at"], rows["mean"].clip(lower=LOWEST), marker="o", markersize=2, **look)
    axes.set_yscale("log")
    axes.set_xscale("asinh", linear_width=0.1)
    axes.margins(x=0.03)
    axes.set_ylim(LOWEST, 2)
    axes.set_xlabel("eigenvalue")
    style.draw_grid(axes)


def _notes(frame: pd.DataFrame, data: pd.DataFrame) -> list[str]:
    top = frame[(frame["quantity"] == "ritz") & (frame["index"] == 0)]
    worst = float((top["residual"] / top["value"]).max())
    known = f"is known within {100 * worst:.2g} %" if worst > ROUNDING else "has converged to rounding"
    return [
        f"Of the mean loss over {int(frame['examples'].min()):,} clean training images, batch norm in evaluation mode, "
        "without weight decay, with respect to every parameter; eigenvalues in nats per squared unit of weight. "
        "Density by stochastic Lanczos quadrature, in bins of equal width in asinh(10 x). Each largest eigenvalue "
        f"{known}. {layout.seed_note(data[data['quantity'] != 'density'], 'point')}",
    ]
