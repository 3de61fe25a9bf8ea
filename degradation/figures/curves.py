"""The curves frame -> training and test error against step (Figure 6 of He et al. 2015)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from degradation.figures import layout, style
from degradation.figures.published_points import Mark, draw_marks, mark_keys, mark_notes
from degradation.figures.tidy import SERIES, at_last_step, kinds, of_kind, over_seeds, prefer, series, study_frame
from degradation.spec import StudySpec
from degradation.study.results import Results

RINGS = {"marker": "o", "markersize": 3, "markerfacecolor": "white"}
LINES: dict[str, dict[str, Any]] = {
    "train_running": {"linewidth": 0.7, "alpha": 0.4, "linestyle": "-"},
    "train": {"linewidth": 1.1, "linestyle": (0, (3.5, 1.5)), "zorder": 3, **RINGS},
    "test": {"linewidth": 2.0, "linestyle": "-"},
}
"""Figure 6: dashed is the training error, bold the test error; white rings keep it visible where they coincide."""
MEANING = {
    "test": "test error",
    "train": "training error, clean images",
    "train_running": "running training error (augmented, training mode)",
}
WORDS = {"train": "training error", "test": "test error"}
GAP = 0.1  # difference of errors above which the running statistics do not describe the network
LINES_ABOVE, POINTS_PER_LINE = 4, 9.5  # lines on diverged runs above a panel
ABOVE_FINAL = 2.5  # the y axis ends no lower than this many times the median error at the end


def curves_data(frame: pd.DataFrame) -> pd.DataFrame:
    """SERIES, split, statistics, step -> mean, low, high of the error (fractions) over seeds."""
    return over_seeds(frame[frame["split"].isin(list(LINES))], "error", ["split", "statistics", "step"])


@style.in_style
def curves(results: Results, marks: Sequence[Mark] = ()) -> tuple[Figure, pd.DataFrame]:
    """Draw training and test error against step, plain and residual side by side on one y axis.

    Errors are evaluated with running batch-norm statistics; the data holds both. ``marks``: published errors, at
    their step. Raises UserError if no run is done.
    """
    data = curves_data(study_frame(results, "curves"))
    shown = prefer(data, "running")
    upper, panels, study = top(shown, marks), kinds(data), results.study
    rows = -(-len(panels) // 2)
    figure = layout.page(
        results,
        "Training error and test error against step",
        [*_notes(results, data, shown, upper), *mark_notes(marks)],
        (9.0 if len(panels) > 1 else 7.0, 3.7 * rows),
        _key(len(panels), marks),
    )
    grid = figure.subplots(rows, min(2, len(panels)), sharey=True, squeeze=False)
    for axes, kind in zip(grid.flat, panels, strict=False):
        _panel(axes, of_kind(shown, kind), study.each_arm[kind.arm], upper)
        draw_marks(
            axes,
            [mark for mark in marks if kind == (mark.network, mark.shortcut, "")],
            lambda mark: study.recipe.steps if mark.at == "end" else study.recipe.milestones[0],
            lambda mark: style.shade(mark.network, mark.depth, study.depths),
        )
    diverged = shown[shown["status"] == "diverged"]
    lines = [_mark_divergence(a, of_kind(diverged, k), results) for a, k in zip(grid.flat, panels, strict=False)]
    for axes, kind in zip(grid.flat, panels, strict=False):
        style.title_of_kind(axes, kind, pad=6 + POINTS_PER_LINE * max(lines))
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes in grid[:, 0]:
        axes.set_ylabel("error (%)")
    return figure, data


def top(shown: pd.DataFrame, marks: Sequence[Mark] = ()) -> float:
    """Upper end of the y axis: above every error of the last step and every mark, a multiple of 0.1 in 0.2..1."""
    last = at_last_step(shown)
    ends = last.loc[last["status"] == "finished", "high"].dropna()
    if ends.empty:
        return 1.0
    highest = max(ABOVE_FINAL * float(ends.median()), 1.1 * float(ends.max()), *(1.1 * mark.error for mark in marks))
    return float(np.clip(np.ceil(10 * highest) / 10, 0.2, 1.0))


def _panel(axes: Axes, shown: pd.DataFrame, study: StudySpec, upper: float) -> None:
    depths, recipe = study.depths, study.recipe
    for milestone in recipe.milestones:
        axes.axvline(milestone, color="0.8", linewidth=0.8, zorder=0)
    axes.set(xlim=(0, recipe.steps), ylim=(0, upper), xlabel="step")
    for key, rows in series(shown):
        colour = style.shade(key.network, key.depth, depths)
        for split, look in LINES.items():
            part = rows[rows["split"] == split]
            axes.plot(part["step"], part["mean"], color=colour, label=f"{style.network_name(key)} {split}", **look)
            if split != "train_running" and len(part):
                style.band(axes, part, "step", colour)
    style.end_labels(axes, _ends(shown, depths), inches=3.0)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: style.step_label(step)))
    axes.yaxis.set_major_formatter(FuncFormatter(style.percent))
    axes.tick_params(labelbottom=True, labelleft=axes.get_subplotspec().is_first_col())  # type: ignore[union-attr]


def _ends(shown: pd.DataFrame, depths: tuple[int, ...]) -> list[tuple[float, str, str]]:
    """Last test error, depth and colour of each line, except for diverged runs."""
    tests = shown[(shown["split"] == "test") & (shown["status"] == "finished")]
    return [
        (float(rows["mean"].iloc[-1]), f"depth {key.depth}", style.shade(key.network, key.depth, depths))
        for key, rows in series(tests)
    ]


def _mark_divergence(axes: Axes, diverged: pd.DataFrame, results: Results) -> int:
    """Draw a cross at the last row of each diverged run (at the upper edge if it is above), and write its step.

    Returns the number of text lines above the panel.
    """
    texts = []
    for key, rows in series(diverged):
        last = rows.sort_values(["step", "split"]).iloc[-1]
        y = min(float(last["mean"]), axes.get_ylim()[1])
        colour = style.shade(key.network, key.depth, results.study.depths)
        axes.plot([last["step"]], [y], "x", color=colour, markersize=8, markeredgewidth=2, clip_on=False)
        seed, step = results.specs[key.run].seed, layout.divergence_step(results, key.run)
        texts.append((f"× depth {key.depth}, seed {seed}: diverged at step {step:,}", colour))
    if len(texts) > LINES_ABOVE:
        texts[LINES_ABOVE - 1 :] = [(f"× {len(texts) - LINES_ABOVE + 1} more diverged: see below", style.GREY)]
    for line, (text, colour) in enumerate(reversed(texts)):
        at = (0, 4 + POINTS_PER_LINE * line)
        axes.annotate(text, (0.5, 1), at, "axes fraction", "offset points", ha="center", fontsize=7.5, color=colour)
    return len(texts)


def _key(panels: int, marks: Sequence[Mark]) -> style.Key:
    looks = {split: {key: value for key, value in look.items() if key != "alpha"} for split, look in LINES.items()}
    handles = [Line2D([], [], color="0.25", label=MEANING[split], **looks[split]) for split in MEANING]
    return style.Key(
        handles=[*handles, Line2D([], [], color="0.8", label="learning rate / 10"), *mark_keys(marks)],
        columns=2 if panels < 2 else 3 if marks else 4,
    )


def _notes(results: Results, data: pd.DataFrame, shown: pd.DataFrame, upper: float) -> list[str]:
    clean, measure = shown[shown["split"] != "train_running"], results.study.measure
    used = " and ".join(sorted(set(clean["statistics"]))) or "no"
    examples = {"Before": measure.eval_examples, "At": measure.final_examples}
    outside = (shown["high"] > upper).any()
    return [
        f"Training error on clean images and test error are evaluated with {used} batch-norm statistics. "
        + layout.seed_note(shown),
        *(f"{at} the last step on the first {n:,} images of each split." for at, n in examples.items() if n),
        *([f"Errors above {upper:.0%} are outside the axes."] if outside else []),
        *gap_notes(data, "train"),
        *layout.divergence_notes(results, "a cross at the last row"),
    ]


def gap_notes(data: pd.DataFrame, split: str) -> list[str]:
    """A note for each network whose last error is more than 0.1 higher with running statistics."""
    clean = data[(data["split"] == split) & (data["status"] == "finished")]
    last = at_last_step(clean)
    wide = last.pivot_table(index=SERIES, columns="statistics", values="mean", observed=True).reset_index()
    if not {"running", "batch"} <= set(wide):
        return []
    far = wide[wide["running"] - wide["batch"] > GAP]
    return [
        f"{style.network_name(key)}: last {WORDS[split]} {rows['running'].iloc[0]:.1%} with running, "
        f"{rows['batch'].iloc[0]:.1%} with batch statistics: the running ones do not describe this network."
        for key, rows in series(far)
    ]
