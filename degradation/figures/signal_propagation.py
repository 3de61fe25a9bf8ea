"""The signal frame -> how well signals and gradients pass through networks, against depth; CKA of every two layers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from degradation.figures import layout, style
from degradation.figures.tidy import Kind, Series, arms, kinds, of_kind, over_seeds, study_frame
from degradation.study.results import Results

PANELS: Mapping[str, str] = {
    "jacobian-condition": "Jacobian's condition",
    "ntk-cosine": "kernel: mean cosine",
    "ntk-condition": "kernel: condition",
    "gradient-cosine-within": "gradients of a class: cosine",
    "gradient-cosine-least": "any two gradients: least cosine",
    "noise-scale": "gradient noise scale",
}
LOGARITHMIC = ("jacobian-condition", "ntk-condition", "noise-scale")
COLUMNS = 3
STATES = {"initial": "at initialization", "snapshot": "at a kept step", "trained": "trained"}
COLOUR_MAP, BLANK = "viridis", "0.85"


@style.in_style
def signal(results: Results) -> tuple[Figure, pd.DataFrame]:
    """Draw six measures against depth, two rows of panels for each arm, plain and residual in one panel.

    The data: SERIES, state, step, quantity -> mean, low and high over seeds; the mean is the geometric one for what has
    a logarithmic axis. Raises UserError if the experiment ``signal`` was not run.
    """
    frame = study_frame(results, "signal")
    data = _over_seeds(frame[frame["quantity"].isin(list(PANELS))])
    shown_arms, half = arms(data), len(PANELS) // COLUMNS
    title, size = "How signals and gradients pass through", (9.8, 4.2 * len(shown_arms))
    figure = layout.page(results, title, _notes(frame, data), size, _key(data), experiment=True)
    grid = figure.subplots(half * len(shown_arms), COLUMNS, squeeze=False)
    for place, arm in enumerate(shown_arms):
        rows = grid[half * place : half * (place + 1)]
        for axes, (quantity, title) in zip(rows.flat, PANELS.items(), strict=True):
            _panel(axes, data[(data["quantity"] == quantity) & (data["arm"] == arm)], quantity)
            axes.set_title(style.in_arm(arm, title), fontweight="bold")
    for axes in grid[-1]:
        axes.set_xlabel("depth")
    return figure, data


def _over_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    with np.errstate(divide="ignore", invalid="ignore"):
        logarithm = np.log(frame["value"].astype("float64"))
    logarithmic = frame["quantity"].isin(LOGARITHMIC)
    data = over_seeds(
        frame.assign(value=frame["value"].where(~logarithmic, logarithm)), "value", ["state", "step", "quantity"]
    )
    linear = ~data["quantity"].isin(LOGARITHMIC)
    return data.assign(**{name: data[name].where(linear, np.exp(data[name])) for name in ("mean", "low", "high")})


def _panel(axes: Axes, data: pd.DataFrame, quantity: str) -> None:
    for kind in kinds(data):
        part = of_kind(data, kind)
        for state in STATES:
            for _, rows in part[part["state"] == state].groupby("step"):
                _line(axes, rows.sort_values("depth"), kind, state)
    if quantity in LOGARITHMIC and data["mean"].notna().any():
        axes.set_yscale("log")
        style.plain_numbers(axes, *axes.get_ylim())
    axes.set_xticks(sorted(data["depth"].unique()))
    style.draw_grid(axes)


def _line(axes: Axes, rows: pd.DataFrame, kind: Kind, state: str) -> None:
    axes.plot(rows["depth"], rows["mean"], **_look(kind, state))
    style.band(axes, rows, "depth", style.COLOURS[kind.network])


def _look(kind: Kind, state: str) -> dict[str, Any]:
    colour = style.COLOURS[kind.network]
    filled = {"initial": "white", "snapshot": "0.75", "trained": colour}[state]
    look = {"color": colour, "linestyle": style.DASHES[kind.shortcut], "marker": style.MARKERS[kind.shortcut]}
    return look | {"markersize": 4, "markeredgecolor": colour, "markerfacecolor": filled}


def _key(data: pd.DataFrame) -> style.Key:
    """A handle for each kind and state, whatever its arm."""
    present = dict.fromkeys((kind.network, kind.shortcut) for kind in kinds(data))
    states = [state for state in STATES if (data["state"] == state).any()]
    handles = [
        Line2D([], [], label=f"{style.kind_name(Kind(*each))}, {STATES[state]}", **_look(Kind(*each), state))
        for each in present
        for state in states
    ]
    return style.Key(handles=handles, columns=len(states))


def _notes(frame: pd.DataFrame, data: pd.DataFrame) -> list[str]:
    paired = int(frame.loc[frame["quantity"] == "ntk-cosine", "examples"].min())
    noise = int(frame.loc[frame["quantity"] == "noise-scale", "examples"].min())
    kept = sorted(frame.loc[frame["state"] == "snapshot", "step"].unique())
    steps = f" Kept steps: {', '.join(f'{step:,}' for step in kept)}." if kept else ""
    return [
        "Jacobian of the logits with respect to the image: largest singular value over the last but one. Kernel: of "
        "the gradients of one logit with respect to all weights; its condition alone misleads, since unrelated "
        "gradients (cosine 0) make a well-conditioned kernel. Noise scale: examples at which the noise of the mean "
        "gradient equals the gradient; missing if the gradient cannot be told from noise.",
        f"{paired} clean training images, {noise:,} for the noise scale; batch norm in evaluation mode, before the end "
        f"of training with statistics estimated over training images.{steps} {layout.seed_note(data)}",
    ]


# Similarity of layers


@style.in_style
def cka(results: Results) -> tuple[Figure, pd.DataFrame]:
    """Draw the similarity of every two layers of trained networks: a row each kind of network, a column each depth.

    The data: SERIES, layer, other -> mean, low and high over seeds of the CKA. Raises UserError if the experiment
    ``signal`` was not run.
    """
    frame = study_frame(results, "signal", "cka")
    trained = frame[(frame["quantity"] == "cka") & (frame["state"] == "trained")]
    data = over_seeds(trained.rename(columns={"index": "layer"}), "value", ["layer", "other"])
    depths, rows = sorted({int(depth) for depth in data["depth"]}), kinds(data)
    examples = int(frame.loc[frame["quantity"] == "cka", "examples"].min())
    notes = [
        f"Linear CKA of the responses to {examples} clean training images, unbiased: 1 for responses that are equal "
        "but for rotation and scale, about 0 for unrelated ones. Trained networks, batch norm in evaluation mode; mean "
        "over seeds. Large bright squares: layers that do nearly the same.",
    ]
    title = "Similarity of every two layers (CKA)"
    size = (min(10.0, max(7.2, 2.3 * len(depths) + 1.4)), 2.6 * len(rows) + 0.3)
    figure = layout.page(results, title, notes, size, experiment=True)
    grid = figure.subplots(len(rows), len(depths), squeeze=False)
    for row, kind in zip(grid, rows, strict=True):
        for axes, depth in zip(row, depths, strict=True):
            _matrix(axes, of_kind(data, kind), depth)
            name = style.network_name(Series(kind.network, kind.shortcut, depth, "finished", ""))
            axes.set_title(
                style.in_arm(kind.arm, name, mark="\n"), color=style.COLOURS[kind.network], fontweight="bold"
            )
        row[0].set_ylabel("layer")
    for axes in grid[-1]:
        axes.set_xlabel("layer")
    scale = ScalarMappable(Normalize(0, 1), style.colour_map(COLOUR_MAP, BLANK))
    figure.colorbar(scale, ax=list(grid.flat), label="CKA", aspect=30, pad=0.015)
    return figure, data


def _matrix(axes: Axes, data: pd.DataFrame, depth: int) -> None:
    rows = data[data["depth"] == depth]
    half = rows.pivot_table(index="layer", columns="other", values="mean")
    numbers = sorted({*half.index, *half.columns})
    half = half.reindex(index=numbers, columns=numbers)
    whole = half.combine_first(half.T).to_numpy(dtype=float)
    edges = (0.5, len(numbers) + 0.5)
    axes.imshow(
        whole, origin="lower", vmin=0, vmax=1, cmap=style.colour_map(COLOUR_MAP, BLANK), extent=(*edges, *edges)
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, integer=True))
