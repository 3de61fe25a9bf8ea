"""Title, study labels, key, notes and provenance -> the page around a figure's panels."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from degradation.figures.style import COLOURS, GREY, Key, in_arm, kind_name
from degradation.figures.tidy import Kind
from degradation.study.results import Results

Grid = np.ndarray[Any, Any]
"""Axes by row and column."""

HEADER, LINE, KEY_ROW = 0.34, 0.155, 0.2  # inches: the title, a line of small print, a row of the key
SHOWN = ("version", "commit", "torch", "device", "precision", "threads")  # all other facts are in the file's metadata
CHARACTERS_PER_INCH = 17.5  # of the small print, on average


def page(
    results: Results,
    title: str,
    notes: Sequence[str],
    size: tuple[float, float],
    key: Key | None = None,
    *,
    experiment: bool = False,
) -> Figure:
    """Make a figure whose panels will fill ``size`` (width, height in inches) between header and footer.

    The header holds title, study labels and key; the footer notes and provenance. The figure of an ``experiment`` on
    trained networks names the precision of both: experiments are in fp32.
    """
    key, (width, panel_height) = key or Key(), size
    labels = _wrapped(study_labels(results), 0.8 * width)  # they are bold
    notes = _wrapped([*notes, *_arm_notes(results)], width)
    provenance = _wrapped([_provenance_line(results, experiment)], width)
    header = HEADER + LINE * len(labels) + KEY_ROW * key.rows + 0.06
    footer = LINE * (len(notes) + len(provenance)) + 0.1
    height = panel_height + header + footer
    figure = Figure(figsize=(width, height))
    figure.set_layout_engine("constrained", rect=(0, footer / height, 1, panel_height / height), h_pad=0.05, w_pad=0.06)
    _write(figure, [title], 0.07, fontsize=11.5, fontweight="bold")
    _write(figure, labels, HEADER - 0.03, fontsize=8, fontweight="bold", color="#7a0019", gid="labels")
    _write(figure, notes, height - footer + 0.03, fontsize=7.5, gid="notes")
    _write(figure, provenance, height - footer + 0.05 + LINE * len(notes), fontsize=7, color=GREY, gid="provenance")
    if key.handles:
        corner = (0.005, (height - HEADER - LINE * len(labels)) / height)
        place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": corner}
        figure.legend(handles=key.handles, ncols=key.columns, handlelength=2.8, **place)
    return figure


def _wrapped(texts: Sequence[str], width: float) -> list[str]:
    return [line for text in texts for line in textwrap.wrap(text, int(width * CHARACTERS_PER_INCH))]


def _write(figure: Figure, lines: Sequence[str], inches_from_top: float, **font: Any) -> None:
    height = figure.get_figheight()
    for number, line in enumerate(lines):
        y = 1 - (inches_from_top + LINE * number) / height
        figure.text(0.1 / figure.get_figwidth(), y, line, va="top", parse_math=False, **font)


def name_panels(grid: Grid, rows: Sequence[Kind], y: str, titles: Sequence[str], below: Sequence[str]) -> None:
    """Name each row by its network and ``y``, and each column by a title and, ``below``, by what its x axis is."""
    name_rows(grid, rows, y)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontweight="bold")
    for axes, x in zip(grid[-1], below, strict=True):
        axes.set_xlabel(x)


def name_rows(grid: Grid, rows: Sequence[Kind], y: str) -> None:
    """Write the network and ``y`` next to the first panel of each row, in the network's colour."""
    for (first, *_), kind in zip(grid, rows, strict=True):
        network = in_arm(kind.arm, kind_name(kind._replace(arm="")), mark="\n")
        first.set_ylabel(f"{network}\n{y}", color=COLOURS[kind.network])


def study_labels(results: Results) -> list[str]:
    """The labels of the study for every figure, and how much of it is done."""
    planned, done = len(results.planned), len(results.run_ids)
    return [*results.study.labels, *([f"{done} of {planned} runs are done"] if done < planned else [])]


def _provenance_line(results: Results, experiment: bool) -> str:
    """The study, and the most important facts of its provenance."""
    facts = provenance_facts(results)
    if experiment and "precision" in facts:
        facts["precision"] = f"{facts['precision']} (the experiment fp32)"
    return " · ".join([f"study {results.name}", *(f"{name} {facts[name]}" for name in SHOWN if name in facts)])


def provenance_facts(results: Results) -> dict[str, str]:
    """The provenance of the runs, each fact as text; all values if runs differ."""
    facts = {name: ", ".join(v) if isinstance(v, list) else str(v) for name, v in results.provenance.items()}
    return {name: value for name, value in facts.items() if value}


def _arm_notes(results: Results) -> list[str]:
    """What each arm of the study changes."""
    changes = [f"{name}: {results.study.changes(name)}" for name in results.study.arms]
    return [f"Arms: {'; '.join(changes)}."] if changes else []


def seed_note(data: pd.DataFrame, what: str = "line") -> str:
    """What the line (or other mark) and its band show of the seeds of the finished runs."""
    counts = data.loc[data["status"] == "finished", "seeds"]
    if counts.empty or counts.max() <= 1:
        return "One seed for each network: no band."
    fewest, most = int(counts[counts > 0].min()), int(counts.max())
    seeds = f"{most} seeds" if fewest == most else f"{fewest} to {most} seeds"
    return f"{what.capitalize()}: mean of {seeds}; band: lowest to highest seed."


def divergence_notes(results: Results, drawn: str) -> list[str]:
    """A note naming every diverged run and its step, none if all finished; ``drawn``: how they are drawn."""
    diverged = [run_id for run_id in results.run_ids if results.status[run_id] == "diverged"]
    names = [
        f"{in_arm(results.arms[run_id], run_id.rsplit('-', 1)[0])} at step {divergence_step(results, run_id):,}"
        for run_id in diverged
    ]
    return [f"Diverged, not in any mean or band ({drawn}): {'; '.join(names)}."] if names else []


def divergence_step(results: Results, run_id: str) -> int:
    """The first step whose loss was not finite; if that is unknown, the last step with a row."""
    step = results.facts[run_id].get("diverged_step")
    if step is None:
        curves = results["curves"]
        step = curves.loc[curves["run_id"] == run_id, "step"].max()
    return 0 if step != step else int(step)
