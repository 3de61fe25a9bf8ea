"""The responses frame -> standard deviation of each layer's last response (Figure 7 of He et al. 2015)."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from degradation.figures import layout, style
from degradation.figures.tidy import arms, last_rows, over_seeds, prefer, study_frame
from degradation.study.results import Results

WIDE = 30  # times the median: one network this far above makes the others flat on a linear axis
TITLES = {"layer order": "in layer order", "sorted": "sorted by magnitude"}
COUNTED = {"layer order": "layer (1 is next to the image)", "sorted": "rank (1 is the layer with the largest response)"}
MEANING = {
    "batch": "Standard deviation of each layer's response over the training batch: after batch norm, before the ReLU "
    "or the addition. With batch statistics it is sqrt(mean(gamma² v/(v+eps)) + var(beta)): a readout of the "
    "batch norm's gamma and beta, and so of weight decay.",
    "none": "Without batch norm: standard deviation over the training batch of each convolution's output, with its "
    "bias, before the ReLU or the addition.",
}
CONVOLVED = (
    "If a block's second norm is after the addition, or before its convolution, its second layer is measured after "
    "the convolution, in plain networks too."
)


def responses_data(frame: pd.DataFrame) -> pd.DataFrame:
    """SERIES, panel, position -> mean, low, high of the last standard deviations over seeds.

    Panel ``layer order``: position is the layer. Panel ``sorted``: the rank, 1 the largest of each seed.
    """
    last = prefer(last_rows(frame), "batch")
    deviations = last.groupby("run_id", observed=True)["std"]
    rank = deviations.rank(method="first", ascending=False, na_option="bottom").astype("int64")
    ordered = last.assign(panel="layer order", position=last["layer"])
    return over_seeds(pd.concat([ordered, last.assign(panel="sorted", position=rank)]), "std", ["panel", "position"])


@style.in_style
def responses(results: Results) -> tuple[Figure, pd.DataFrame]:
    """Draw standard deviations of the layer responses, in layer order above and sorted below.

    Raises UserError if the study did not record the probe ``responses``.
    """
    data = responses_data(study_frame(results, "responses"))
    names = arms(data)
    figure = layout.page(
        results,
        "Standard deviation of the layer responses at the last step",
        [readout(results), layout.seed_note(data), *layout.divergence_notes(results, "dotted, at the last row")],
        (9.0, 6.0 if len(names) == 1 else 2.7 * len(names)),
        style.network_key(data, results.study.depths, mixed=True),
    )
    # One arm: two panels above each other. Several arms: a row each, with its panels side by side.
    shape = (2, 1) if len(names) == 1 else (len(names), 2)
    grid = figure.subplots(*shape, sharex=True, sharey=True if len(names) == 1 else "row", squeeze=False)
    places = [(arm, panel) for arm in names for panel in TITLES]
    for axes, (arm, panel) in zip(grid.flat, places, strict=True):
        _panel(axes, data[(data["arm"] == arm) & (data["panel"] == panel)], results)
        axes.set_title(style.in_arm(arm, TITLES[panel]), loc="left", fontweight="bold")
        axes.set_xlabel(COUNTED[panel])
        axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
        axes.tick_params(labelbottom=True)
    for axes in grid[:, 0]:
        axes.set_ylabel("std of the response" + (", logarithmic" if axes.get_yscale() == "log" else ""))
    grid[0, 0].set_xlim(0, int(data["position"].max()) + 1)
    return figure, data


def readout(results: Results) -> str:
    """The definition of a response in the study, whose arms may have batch norm or none."""
    arms = results.study.each_arm.values()
    texts = [text for norm, text in MEANING.items() if norm in {arm.norm for arm in arms}]
    return " ".join(texts + [CONVOLVED] * any(arm.block.adds_convolved for arm in arms))


def _panel(axes: Axes, data: pd.DataFrame, results: Results) -> None:
    highest = float(data["high"].max())  # of this arm: without batch norm the scale differs
    positive = data.loc[data["mean"] > 0, "mean"]
    if len(positive) and highest > WIDE * positive.median():
        axes.set_yscale("log")
        axes.set_ylim(0.8 * float(positive.min()), 1.25 * highest)
        style.plain_numbers(axes, float(positive.min()), highest)
    else:
        axes.set_ylim(0, 1.05 * highest if highest > 0 else 1)  # a diverged run may have no finite response
    style.draw_lines(axes, data, "position", results.study.depths, mixed=True)
