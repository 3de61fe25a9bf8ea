"""One number by layer and step -> a grid of panels, one per network, with one colour scale, or one for each norm."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from degradation.figures import layout, style
from degradation.figures.gradient_flow import MEANING
from degradation.figures.responses import readout
from degradation.figures.tidy import Kind, Series, arms, kinds, of_kind, over_seeds, prefer, study_frame
from degradation.study.results import Results

BLANK = "#bdbdbd"  # no number: the log of zero, or a step after the run diverged
DECADES = 6  # most decades of a logarithmic colour scale


@dataclass(frozen=True, kw_only=True)
class HeatmapSpec:
    """The number in the cells of a heat map, and the texts of the figure."""

    figure: str
    frame: str
    column: str
    title: str
    unit: str
    """Label of the colour bar."""
    colours: str
    """Name of matplotlib's colour map: monotonic in lightness, so that it works in grey print."""
    notes: tuple[str, ...] = ()
    logarithmic: bool = False
    """Whether a cell is log10 of the mean over seeds, or the mean itself."""


def heatmap(results: Results, quantity: HeatmapSpec) -> tuple[Figure, pd.DataFrame]:
    """Draw one quantity. Raises UserError if the study did not record its frame.

    The data: SERIES, step, layer -> mean, low, high over seeds, and the cell (a logarithm is missing at zero).
    """
    frame = study_frame(results, quantity.frame, quantity.figure)
    data = over_seeds(prefer(frame, "batch") if "statistics" in frame else frame, quantity.column, ["step", "layer"])
    positive = data["mean"].where(data["mean"] > 0).astype("float64")
    data = data.assign(cell=np.log10(positive) if quantity.logarithmic else data["mean"])
    rows = networks(data)
    cells = {key: cells_of(data, key) for row in rows for key in row}
    scales = _scales(results, quantity, cells)
    size = (min(10.0, max(7.2, 2.6 * len(rows[0]) + 1.4)), 2.25 * len(rows) + 0.3)
    figure = layout.page(results, quantity.title, _notes(results, quantity, data, cells), size)
    same_steps = len({tuple(cell) for cell in cells.values()}) == 1  # arms may record different steps
    grid = figure.subplots(len(rows), len(rows[0]), squeeze=False, sharex=same_steps)
    firsts = frame.groupby(["depth", "stage"])["layer"].min()
    for axes, (key, cell) in zip(grid.flat, cells.items(), strict=True):
        _panel(axes, cell, scales[key.arm])
        for first in list(firsts.get(key.depth, []))[1:]:  # a thin line between stages
            axes.axhline(first - 0.5, color="white", linewidth=0.7)
        # Every recorded step is one column: ticks at five of them.
        ticks = np.unique(np.linspace(0, len(cell.columns) - 1, 5).round().astype(int))
        axes.set_xticks(ticks, [style.step_label(int(cell.columns[tick])) for tick in ticks])
        name = style.network_name(key._replace(arm="")) + (", one diverged run" if key.diverged else "")
        title = style.in_arm(key.arm, name, mark="\n")
        axes.set_title(title, color=style.COLOURS[key.network], fontweight="bold")
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    for axes in grid[-1]:
        axes.set_xlabel("step")
    for axes in grid[:, 0]:
        axes.set_ylabel("layer")
    for scale in dict.fromkeys(scales.values()):
        own = {key: cell for key, cell in cells.items() if scales[key.arm] is scale}
        panels = [axes for axes, key in zip(grid.flat, cells, strict=True) if key in own]
        below = any((cell < scale.get_clim()[0]).any(axis=None) for cell in own.values())
        extend = "min" if below else "neither"
        figure.colorbar(scale, ax=panels, label=quantity.unit, aspect=30, pad=0.015, extend=extend)
    return figure, data


def _scales(results: Results, quantity: HeatmapSpec, cells: dict[Series, pd.DataFrame]) -> dict[str, ScalarMappable]:
    """The colour scale of each arm: one for all, or one for each if the arms differ in their norm.

    Responses without a norm have another magnitude: one scale for both would show neither well.
    """
    arm_specs = results.study.each_arm
    norms = {key.arm: (arm_specs[key.arm].norm, arm_specs[key.arm].block.adds_convolved) for key in cells}
    if len(set(norms.values())) == 1:
        return dict.fromkeys(norms, _colours(quantity, list(cells.values())))
    alike = {arm: [cell for key, cell in cells.items() if norms[key.arm] == norms[arm]] for arm in norms}
    return {arm: _colours(quantity, alike[arm]) for arm in norms}


def networks(data: pd.DataFrame) -> list[list[Series]]:
    """The panels, row by row: a row each kind, a column each depth; with one depth, the kinds of an arm in one row.

    If arms have different numbers of kinds, each kind still has its own row: rows have equal length.
    """
    depths = sorted({int(depth) for depth in data["depth"]})
    rows = [[_shown(data, kind, depth) for depth in depths] for kind in kinds(data)]
    in_arms = [[key for row in rows for key in row if key.arm == arm] for arm in arms(data)]
    return rows if len(depths) > 1 or len({len(row) for row in in_arms}) > 1 else in_arms


def _shown(data: pd.DataFrame, kind: Kind, depth: int) -> Series:
    """What a network's panel shows: its finished seeds, or its first diverged run if none finished."""
    rows = of_kind(data, kind)
    run = str(rows.loc[rows["depth"] == depth, "run"].min()) if (rows["depth"] == depth).any() else ""
    return Series(kind.network, kind.shortcut, depth, "diverged" if run else "finished", run, kind.arm)


def cells_of(data: pd.DataFrame, key: Series) -> pd.DataFrame:
    """The cells of a panel: a row each layer, a column each recorded step of its arm; missing if not measured."""
    rows = of_kind(data, key.kind)
    rows = rows[(rows["depth"] == key.depth) & (rows["run"] == key.run)]
    wide = rows.pivot(index="layer", columns="step", values="cell").astype("float64")
    return wide.reindex(columns=[int(step) for step in sorted(data.loc[data["arm"] == key.arm, "step"].unique())])


def _colours(quantity: HeatmapSpec, cells: Sequence[pd.DataFrame]) -> ScalarMappable:
    """The colour scale of some panels: from the smallest to the largest cell, logarithms over six decades at most."""
    values = np.concatenate([cell.to_numpy().ravel() for cell in cells])
    numbers = values[~np.isnan(values)]
    low, high = (float(numbers.min()), float(numbers.max())) if len(numbers) else (0.0, 1.0)
    low = max(low, high - DECADES) if quantity.logarithmic else low
    return ScalarMappable(Normalize(low, max(high, low + 1e-6)), style.colour_map(quantity.colours, BLANK))


def _panel(axes: Axes, cells: pd.DataFrame, colours: ScalarMappable) -> None:
    if cells.empty:
        axes.text(0.5, 0.5, "not done", transform=axes.transAxes, ha="center", color=style.GREY)
        axes.set_yticks([])
        return
    extent = (-0.5, cells.shape[1] - 0.5, cells.index.min() - 0.5, cells.index.max() + 0.5)
    image = axes.imshow(cells.to_numpy(), origin="lower", aspect="auto", extent=extent, cmap=colours.get_cmap())
    image.set_clim(*colours.get_clim())


def _notes(results: Results, quantity: HeatmapSpec, data: pd.DataFrame, cells: dict[Series, pd.DataFrame]) -> list[str]:
    counts = data.loc[data["status"] == "finished", "seeds"]
    seeds = f"mean of {int(counts.max())} seeds" if len(counts) and counts.max() > 1 else "one seed"
    blank = any(cell.isna().any(axis=None) for cell in cells.values())
    return [
        f"Each cell: {seeds}; each column: one recorded step, denser early. Layer 1, at the bottom, is next "
        "to the image; white lines separate stages.",
        *quantity.notes,
        *(["Grey: no number (zero, or not recorded)."] if blank else []),
        *layout.divergence_notes(results, "shown only if no seed of the network finished"),
    ]


GRADIENTS = HeatmapSpec(
    figure="gradients-heatmap",
    frame="gradients",
    column="weight_grad_norm",
    logarithmic=True,
    title="Gradient norm of each layer's weight over training",
    unit="log10 of the gradient's L2 norm",
    colours="inferno",
    notes=(MEANING,),
)


@style.in_style
def gradients_heatmap(results: Results) -> tuple[Figure, pd.DataFrame]:
    """Draw log10 of the weight's gradient norm. Raises UserError without the probe ``gradients``."""
    return heatmap(results, GRADIENTS)


RESPONSES = HeatmapSpec(
    figure="responses-heatmap",
    frame="responses",
    column="std",
    title="Standard deviation of the layer responses over training",
    unit="std of the response",
    colours="viridis",
)


@style.in_style
def responses_heatmap(results: Results) -> tuple[Figure, pd.DataFrame]:
    """Draw the standard deviation of each layer's response. Raises UserError without the probe ``responses``."""
    return heatmap(results, replace(RESPONSES, notes=(readout(results),)))
