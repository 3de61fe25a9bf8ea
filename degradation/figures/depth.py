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
from degradation.figures.tidy import SERIES, Kind, arms, kinds, last_rows, of_kind, over_seeds, prefer, study_frame
from degradation.study.results import Results

PANELS = {"train": ("Training error", "batch"), "test": ("Test error", "running")}
"""Split -> title, and batch-norm statistics: for a deep plain network the running ones can be useless."""
MANY = 20  # more seeds than this make points of the usual size overlap


def depth_data(frame: pd.DataFrame) -> pd.DataFrame:
    """Each run's last clean errors (fractions): one row for each seed, split and kind of statistics."""
    clean = frame[frame["split"].isin(list(PANELS))]
    columns = [*SERIES[:4], "seed", *SERIES[4:], "step", "split", "statistics", "error"]
    return last_rows(clean)[columns].sort_values(columns).reset_index(drop=True)


@style.in_style
def depth(results: Results, marks: Sequence[Mark] = ()) -> tuple[Figure, pd.DataFrame]:
    """Draw training error (batch statistics) and test error (running statistics) at the last step against depth.

    Of the ``marks`` (published errors) those at the end and of a panel's statistics are drawn. Raises
    UserError if no run is done.
    """
    statistics = {split: preferred for split, (_, preferred) in PANELS.items()}
    marks = [mark for mark in marks if mark.at == "end" and statistics.get(mark.split) == mark.statistics]
    frame = study_frame(results, "curves", "depth")
    data = depth_data(frame)
    shown = {split: prefer(data[data["split"] == split], preferred) for split, preferred in statistics.items()}
    names = arms(data) or [""]  # no run reached an evaluation: one empty panel each
    figure = layout.page(
        results,
        "Error at the last step against depth",
        [*_notes(results, frame, shown["train"]), *mark_notes(marks)],
        (9.0, 3.7 if len(names) == 1 else 2.9 * len(names)),
        _key(data, marks),
    )
    grid = figure.subplots(len(names), 2, squeeze=False, sharey="col")  # arms are compared within a column
    for column, (split, (title, _)) in zip(grid.T, PANELS.items(), strict=True):
        of_split = [mark for mark in marks if mark.split == split]
        used = " and ".join(sorted(set(shown[split]["statistics"])))
        for axes, arm in zip(column, names, strict=True):
            _panel(axes, shown[split][shown[split]["arm"] == arm], results.study.depths, _top(shown[split], of_split))
            if not arm:
                draw_marks(axes, of_split, lambda mark: mark.depth, lambda mark: style.COLOURS[mark.network])
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
    style.draw_grid(axes)
    axes.set_axisbelow(True)


def _one_kind(axes: Axes, rows: pd.DataFrame, kind: Kind, offset: float) -> None:
    """Draw mean line and band at the depths; shift the seeds by ``offset``, so that two networks do not overlap."""
    colour, marker = style.COLOURS[kind.network], style.MARKERS[kind.shortcut]
    finished, diverged = rows[rows["status"] == "finished"], rows[rows["status"] == "diverged"]
    mean = over_seeds(finished, "error", [])
    name, dashes = style.kind_name(kind._replace(arm="")), style.DASHES[kind.shortcut]
    axes.plot(mean["depth"], mean["mean"], color=colour, linestyle=dashes, label=name)
    style.band(axes, mean, "depth", colour)
    look = seed_look(int(mean["seeds"].max()) if len(mean) else 0)
    axes.plot(finished["depth"] + offset, finished["error"], marker, color=colour, label="seeds", **look)
    if len(diverged):
        edge = [axes.get_ylim()[1]] * len(diverged)
        cross: dict[str, Any] = {"markersize": 8, "markeredgewidth": 2, "clip_on": False}
        axes.plot(diverged["depth"] + offset, edge, "x", color=colour, label="diverged", **cross)


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
    handles = []
    for kind in dict.fromkeys(kind._replace(arm="") for kind in kinds(data)):
        look = {"linestyle": style.DASHES[kind.shortcut], "marker": style.MARKERS[kind.shortcut], "markersize": 4.5}
        handles.append(Line2D([], [], color=style.COLOURS[kind.network], label=style.kind_name(kind), **look))
    return style.Key(handles=[*handles, *mark_keys(marks)], columns=4)


def _notes(results: Results, frame: pd.DataFrame, train: pd.DataFrame) -> list[str]:
    return [
        "Evaluated on clean images; training error with batch statistics, because for a deep plain network "
        "the running ones can be useless; the data holds both. Each point is one seed. "
        + layout.seed_note(over_seeds(train, "error", [])),
        *gap_notes(curves_data(frame), "test"),
        *layout.divergence_notes(results, "a cross at the upper edge: no error at the last step"),
    ]
