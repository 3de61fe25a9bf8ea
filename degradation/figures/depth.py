"""The curves frame -> the error at the last step against depth: every seed, their mean and their range."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from degradation.figures import layout, style
from degradation.figures.curves import curves_data, gap_notes
from degradation.figures.published_points import Mark, draw_marks, mark_keys, mark_notes
from degradation.figures.tidy import Kind, arms, kinds, last_rows, measured, of_kind, over_seeds, prefer
from degradation.study.results import Results

PANELS = {"train": ("Training error", "batch"), "test": ("Test error", "running")}
"""Split -> title, and batch-norm statistics: for a deep plain network the running ones can be useless."""


MANY = 20  # more seeds than this make points of the usual size overlap
USED = {(split, statistics) for split, (_, statistics) in PANELS.items()}


def depth_data(frame: pd.DataFrame) -> pd.DataFrame:
    """Each run's last clean errors (fractions): one row for each seed, split and kind of statistics."""
    clean = frame[frame["split"].isin(list(PANELS))]
    columns = [
        "arm",
        "network",
        "shortcut",
        "depth",
        "seed",
        "status",
        "run",
        "step",
        "split",
        "statistics",
        "error",
    ]
    return last_rows(clean)[columns].sort_values(columns).reset_index(drop=True)


@style.in_style
def depth(results: Results, marks: Sequence[Mark] = ()) -> tuple[Figure, pd.DataFrame]:
    """Training error (batch statistics) and test error (running statistics) at the last step against depth.

    Of the ``marks`` (published errors) those at the end and of a panel's statistics are drawn. Raises
    UserError if no run is done.
    """
    marks = [mark for mark in marks if mark.at == "end" and (mark.split, mark.statistics) in USED]
    frame = measured(results, "curves", "depth")
    data = depth_data(frame)
    shown = {split: prefer(data[data["split"] == split], wanted) for split, (_, wanted) in PANELS.items()}
    words = layout.Texts(
        title="Error at the last step against depth",
        notes=[*_notes(results, frame, shown["train"]), *mark_notes(marks)],
    )
    names = arms(data) or [""]  # no run reached an evaluation: one empty panel each
    figure = layout.page(results, words, (9.0, 3.7 if len(names) == 1 else 2.9 * len(names)), _key(data, marks))
    grid = figure.subplots(len(names), 2, squeeze=False, sharey="col")  # arms are compared within a column
    for column, (split, (title, _)) in zip(grid.T, PANELS.items(), strict=True):
        of_split = [mark for mark in marks if mark.split == split]
        used = " and ".join(sorted(set(shown[split]["statistics"])))
        for axes, arm in zip(column, names, strict=True):
            _panel(axes, shown[split][shown[split]["arm"] == arm], results.study.depths, _top(shown[split], of_split))
            draw_marks(
                axes,
                [mark for mark in of_split if not arm],
                lambda mark: mark.depth,
                lambda mark: style.COLOURS[mark.network],
            )
            axes.set_title(style.in_arm(arm, f"{title} ({used} statistics)"), fontweight="bold", pad=10)
    return figure, data.drop(columns="run")


def _top(shown: pd.DataFrame, marks: Sequence[Mark]) -> float:
    finished = shown.loc[shown["status"] == "finished", "error"]
    highest = max([float(finished.max()) if len(finished) else 0.0, *(mark.error for mark in marks)])
    return 1.15 * highest if highest > 0 else 1.0


def _panel(axes: Axes, shown: pd.DataFrame, depths: Sequence[int], upper: float) -> None:
    span = max(depths) - min(depths) or 10
    axes.set(xlabel="depth (weighted layers)", ylabel="error (%)")
    axes.set(xlim=(min(depths) - 0.06 * span, max(depths) + 0.06 * span), ylim=(0, upper))
    panels = kinds(shown)
    for number, kind in enumerate(panels):
        offset = 0.013 * span * (number - (len(panels) - 1) / 2)
        _one_kind(axes, of_kind(shown, kind), kind, offset)
    axes.set_xticks(sorted(depths), readable(sorted(depths)))
    axes.yaxis.set_major_formatter(FuncFormatter(style.percent))
    axes.grid(axis="y", color="0.92", linewidth=0.7)
    axes.set_axisbelow(True)


def _one_kind(axes: Axes, rows: pd.DataFrame, kind: Kind, offset: float) -> None:
    """Mean line and band at the depths; the seeds shifted by ``offset``, so that two networks do not overlap."""
    colour, marker = style.COLOURS[kind.network], style.MARKERS[kind.shortcut]
    finished, lost = rows[rows["status"] == "finished"], rows[rows["status"] == "diverged"]
    mean = over_seeds(finished, "error", [])
    axes.plot(
        mean["depth"],
        mean["mean"],
        color=colour,
        linestyle=style.DASHES[kind.shortcut],
        label=style.kind_name(kind._replace(arm="")),
    )
    style.band(axes, mean, "depth", colour)
    axes.plot(
        finished["depth"] + offset,
        finished["error"],
        marker,
        color=colour,
        label="seeds",
        **seed_look(int(mean["seeds"].max()) if len(mean) else 0),
    )
    if len(lost):
        edge = [axes.get_ylim()[1]] * len(lost)
        crosses = axes.plot(lost["depth"] + offset, edge, "x", color=colour, markersize=8, label="diverged")
        crosses[0].set(markeredgewidth=2, clip_on=False)


def seed_look(seeds: int) -> dict[str, Any]:
    """Marker style of one network: the more points, the smaller."""
    return {"markersize": 4.5, "alpha": 0.75} if seeds <= MANY else {"markersize": 2.0, "alpha": 0.4}


def readable(depths: Sequence[int]) -> list[str]:
    """Tick labels of the depths, empty if one would overlap the one before it."""
    shown: list[int] = []
    for value in depths:
        if not shown or value - shown[-1] >= 0.055 * (depths[-1] - depths[0]):
            shown.append(value)
    return [str(value) if value in shown else "" for value in depths]


def _key(data: pd.DataFrame, marks: Sequence[Mark]) -> style.Key:
    handles = [
        Line2D(
            [],
            [],
            color=style.COLOURS[kind.network],
            linestyle=style.DASHES[kind.shortcut],
            marker=style.MARKERS[kind.shortcut],
            markersize=4.5,
            label=style.kind_name(kind),
        )
        for kind in dict.fromkeys(kind._replace(arm="") for kind in kinds(data))
    ]
    return style.Key(handles=[*handles, *mark_keys(marks)], columns=4)


def _notes(results: Results, frame: pd.DataFrame, train: pd.DataFrame) -> list[str]:
    return [
        "Evaluated on clean images; training error with batch statistics, because for a deep plain network "
        "the running ones can be useless; the data holds both. Each point is one seed. "
        + layout.seed_note(over_seeds(train, "error", [])),
        *gap_notes(curves_data(frame), "test"),
        *layout.divergence_notes(results, "a cross at the upper edge: no error at the last step"),
    ]
