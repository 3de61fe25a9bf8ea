"""The responses frame -> standard deviation of each layer's last response (Figure 7 of He et al. 2015)."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from degradation.figures import page, style
from degradation.figures.tidy import last_rows, measured, over_seeds, prefer, series
from degradation.results import Results

TITLES = {"layer order": "in layer order", "sorted": "sorted by magnitude"}
READOUT = (
    "Standard deviation of each layer's response over the training batch: after batch norm, before the ReLU "
    "or the addition. With batch statistics it is sqrt(mean(gamma² v/(v+eps)) + var(beta)): a readout of the "
    "batch norm's gamma and beta, and so of weight decay."
)


def responses_data(frame: pd.DataFrame) -> pd.DataFrame:
    """SERIES, panel, position -> mean, low, high of the last standard deviations over seeds.

    Panel ``layer order``: position is the layer. Panel ``sorted``: the rank, 1 the largest of each seed.
    """
    last = prefer(last_rows(frame), "batch")
    rank = last.groupby("run_id")["std"].rank(method="first", ascending=False).astype("int64")
    ordered = last.assign(panel="layer order", position=last["layer"])
    return over_seeds(pd.concat([ordered, last.assign(panel="sorted", position=rank)]), "std", ["panel", "position"])


@style.in_style
def responses(results: Results) -> tuple[Figure, pd.DataFrame]:
    """Standard deviations of the layer responses, in layer order above and sorted below.

    Raises UseError where the study did not record the probe ``responses``.
    """
    data = responses_data(measured(results, "responses", "responses"))
    notes = [READOUT, page.seed_note(data), *page.divergence_notes(results, "dotted, at the last row")]
    words = page.Words(title="Standard deviation of the layer responses at the last step", notes=notes)
    figure = page.page(results, words, (9.0, 6.0), style.network_key(data, results.study.depths, mixed=True))
    grid = figure.subplots(2, 1, sharex=True, sharey=True)
    for axes, (panel, title) in zip(grid, TITLES.items(), strict=True):
        _panel(axes, data[data["panel"] == panel], results)
        axes.set_title(title, loc="left", fontweight="bold")
    grid[0].set_xlabel("layer (1 is next to the image)")
    grid[0].tick_params(labelbottom=True)
    grid[1].set_xlabel("rank (1 is the layer with the largest response)")
    return figure, data


def _panel(axes: Axes, data: pd.DataFrame, results: Results) -> None:
    for key, rows in series(data):
        look = style.line_style(key, results.study.depths, mixed=True)
        axes.plot(rows["position"], rows["mean"], label=style.network_name(key), **look)
        style.band(axes, rows, "position", look["color"])
    axes.set(ylim=(0, 1.05 * float(data["high"].max())), ylabel="std of the response")
    axes.set_xlim(0, int(data["position"].max()) + 1)
    axes.grid(axis="y", color="0.92", linewidth=0.7)
