"""The identity frame -> how close each block is to the identity, by four numbers, a row per kind of network."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from degradation.figures import layout, style
from degradation.figures.gradient_flow import name_row
from degradation.figures.lesion import examples_of
from degradation.figures.tidy import kinds, measured, of_kind, over_seeds, series
from degradation.study.results import Results

NUMBERS = {
    "ratio": "branch over shortcut",
    "change": "change of the input",
    "cosine": "cosine",
    "cka": "linear CKA",
}
EXACT = {"ratio": 0.0, "change": 0.0, "cosine": 1.0, "cka": 1.0}
"""Values of an exact identity."""


def identity_data(frame: pd.DataFrame) -> pd.DataFrame:
    """SERIES, number, block, stage -> mean, low, high over seeds."""
    parts = [over_seeds(frame, number, ["block", "stage"]).assign(number=number) for number in NUMBERS]
    return pd.concat(parts, ignore_index=True)


@style.in_style
def identity(results: Results) -> tuple[Figure, pd.DataFrame]:
    """Branch over shortcut, relative change, cosine and linear CKA of each block's input and output.

    Raises UserError if the experiment ``identity`` was not run.
    """
    frame = measured(results, "identity", "identity")
    data = identity_data(frame)
    panels = kinds(data)
    words = layout.Texts(
        title="How close each block of the trained networks is to the identity",
        notes=_notes(frame, data),
        experiment=True,
    )
    height = (2.3 if len(panels) < 3 else 1.8) * len(panels)
    key = style.network_key(data, results.study.depths, mixed=False)
    figure = layout.page(results, words, (9.8, height), key)
    grid = figure.subplots(len(panels), len(NUMBERS), sharex=True, sharey="col", squeeze=False)
    for row, kind in zip(grid, panels, strict=True):
        part = of_kind(data, kind)
        for axes, number in zip(row, NUMBERS, strict=True):
            _panel(axes, part[part["number"] == number], number, results)
        name_row(row, kind, "")
    for axes, number in zip(grid[0], NUMBERS, strict=True):
        axes.set_title(NUMBERS[number], fontweight="bold")
    for axes in grid[-1]:
        axes.set_xlabel("block")
    return figure, data


def _panel(axes: Axes, data: pd.DataFrame, number: str, results: Results) -> None:
    for key, rows in series(data):
        look = style.line_style(key, results.study.depths, mixed=False)
        axes.plot(rows["block"], rows["mean"], marker="o", markersize=2.2, **look)
        style.band(axes, rows, "block", look["color"])
    if data["mean"].isna().all():
        axes.text(0.5, 0.5, "no shortcut", ha="center", va="center", transform=axes.transAxes, color=style.GREY)
    axes.axhline(EXACT[number], color="0.6", linewidth=0.9, zorder=0)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(axis="y", color="0.92", linewidth=0.7)


def _notes(frame: pd.DataFrame, data: pd.DataFrame) -> list[str]:
    return [
        "x is a block's input, y its output after the last ReLU, both over all values of an image. Branch over "
        "shortcut: |F(x)| / |shortcut(x)|; change: |y - x| / |x|; cosine: mean over images; CKA: unbiased. Where "
        "shapes differ, y is compared with the shortcut's output; a plain block, without one, has only a CKA. "
        "Grey: an exact identity.",
        f"On {examples_of(frame)} clean test images, with running statistics.",
        layout.seed_note(data),
    ]
