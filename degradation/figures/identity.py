"""The identity frame -> how close each block is to the identity, by four numbers, a row per kind of network."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from degradation.figures import layout, style
from degradation.figures.lesion import examples_of
from degradation.figures.tidy import kinds, of_kind, over_seeds, study_frame
from degradation.study.results import Results

TITLES = {"ratio": "branch over shortcut", "change": "change of the input", "cosine": "cosine", "cka": "linear CKA"}
EXACT = {"ratio": 0.0, "change": 0.0, "cosine": 1.0, "cka": 1.0}
"""Values of an exact identity."""


@style.in_style
def identity(results: Results) -> tuple[Figure, pd.DataFrame]:
    """Draw branch over shortcut, relative change, cosine and linear CKA of each block's input and output.

    The data: SERIES, number, block, stage -> mean, low, high over seeds. Raises UserError if the experiment
    ``identity`` was not run.
    """
    frame = study_frame(results, "identity")
    parts = [over_seeds(frame, number, ["block", "stage"]).assign(number=number) for number in TITLES]
    data = pd.concat(parts, ignore_index=True)
    panels, depths = kinds(data), results.study.depths
    figure = layout.page(
        results,
        "How close each block of the trained networks is to the identity",
        _notes(frame, data),
        (9.8, (2.3 if len(panels) < 3 else 1.8) * len(panels)),
        style.network_key(data, depths),
        experiment=True,
    )
    grid = figure.subplots(len(panels), len(TITLES), sharex=True, sharey="col", squeeze=False)
    for row, kind in zip(grid, panels, strict=True):
        part = of_kind(data, kind)
        for axes, number in zip(row, TITLES, strict=True):
            _panel(axes, part[part["number"] == number], number, depths)
    layout.name_panels(grid, panels, "", list(TITLES.values()), ["block"] * len(TITLES))
    return figure, data


def _panel(axes: Axes, data: pd.DataFrame, number: str, depths: Sequence[int]) -> None:
    style.draw_lines(axes, data, "block", depths, marker="o", markersize=2.2)
    if data["mean"].isna().all():
        axes.text(0.5, 0.5, "no shortcut", ha="center", va="center", transform=axes.transAxes, color=style.GREY)
    axes.axhline(EXACT[number], color="0.6", linewidth=0.9, zorder=0)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _notes(frame: pd.DataFrame, data: pd.DataFrame) -> list[str]:
    return [
        "x is a block's input, y its output after the last ReLU, both over all values of an image. Branch over "
        "shortcut: |F(x)| / |shortcut(x)|; change: |y - x| / |x|; cosine: mean over images; CKA: unbiased. Where "
        "shapes differ, y is compared with the shortcut's output; a plain block, without one, has only a CKA. "
        "Grey: an exact identity.",
        f"On {examples_of(frame)} clean test images, with running statistics.",
        layout.seed_note(data),
    ]
