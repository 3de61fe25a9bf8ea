"""Title, study labels, key, notes and provenance -> the page around a figure's panels."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from degradation.figures.style import GREY, Key, in_arm
from degradation.study.results import Results

HEADER, LINE, KEY_ROW = 0.34, 0.155, 0.2  # inches: the title, a line of small print, a row of the key
SHOWN = ("version", "commit", "torch", "device", "precision", "threads")  # all other facts are in the file's metadata
CHARACTERS_PER_INCH = 17.5  # of the small print, on average


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Texts around the panels: the title above, the notes below.

    The figure of an ``experiment`` on trained networks names the precision of both: experiments are in fp32.
    """

    title: str
    notes: Sequence[str] = ()
    experiment: bool = False


def page(results: Results, words: Texts, size: tuple[float, float], key: Key | None = None) -> Figure:
    """An empty figure whose panels will fill ``size`` (width, height in inches) between header and footer.

    The header holds title, study labels and key; the footer notes and provenance.
    """
    key, width = key or Key(), size[0]
    labels, notes = (
        _wrapped(study_labels(results), 0.8 * width),
        _wrapped([*words.notes, *arm_notes(results)], width),
    )  # labels are bold
    made_by = _wrapped([provenance_line(results, experiment=words.experiment)], width)
    header = HEADER + LINE * len(labels) + KEY_ROW * key.rows + 0.06
    footer = LINE * (len(notes) + len(made_by)) + 0.1
    height = size[1] + header + footer
    figure = Figure(figsize=(width, height))
    figure.set_layout_engine("constrained", rect=(0, footer / height, 1, size[1] / height), h_pad=0.05, w_pad=0.06)
    _write(figure, [words.title], 0.07, {"fontsize": 11.5, "fontweight": "bold"})
    _write(
        figure,
        labels,
        HEADER - 0.03,
        {"fontsize": 8, "fontweight": "bold", "color": "#7a0019", "gid": "labels"},
    )
    _write(figure, notes, height - footer + 0.03, {"fontsize": 7.5, "gid": "notes"})
    _write(
        figure,
        made_by,
        height - footer + 0.05 + LINE * len(notes),
        {"fontsize": 7, "color": GREY, "gid": "provenance"},
    )
    if key.handles:
        top = (height - HEADER - LINE * len(labels)) / height
        figure.legend(
            handles=key.handles,
            ncols=key.columns,
            loc="upper left",
            bbox_to_anchor=(0.005, top),
            handlelength=2.8,
        )
    return figure


def _wrapped(texts: Sequence[str], width: float) -> list[str]:
    return [line for text in texts for line in textwrap.wrap(text, int(width * CHARACTERS_PER_INCH))]


def _write(figure: Figure, lines: Sequence[str], inches_from_top: float, font: dict[str, Any]) -> None:
    height = figure.get_figheight()
    for number, line in enumerate(lines):
        y = 1 - (inches_from_top + LINE * number) / height
        figure.text(0.1 / figure.get_figwidth(), y, line, va="top", parse_math=False, **font)


def study_labels(results: Results) -> list[str]:
    """The labels of the study for every figure, and how much of it is done."""
    planned, done = len(results.planned), len(results.run_ids)
    return [*results.study.labels, *([f"{done} of {planned} runs are done"] if done < planned else [])]


def provenance_line(results: Results, *, experiment: bool = False) -> str:
    """The study, and the most important facts of its provenance."""
    facts = provenance_facts(results)
    if experiment and "precision" in facts:
        facts["precision"] = f"{facts['precision']} (the experiment fp32)"
    return " · ".join([f"study {results.name}", *(f"{name} {facts[name]}" for name in SHOWN if name in facts)])


def provenance_facts(results: Results) -> dict[str, str]:
    """The provenance of the runs, each fact as text; all values if runs differ."""
    facts = {name: ", ".join(v) if isinstance(v, list) else str(v) for name, v in results.provenance.items()}
    return {name: value for name, value in facts.items() if value}


# text below the panels


def arm_notes(results: Results) -> list[str]:
    """What each arm of the study changes."""
    changed = [f"{name}: {results.study.changes(name)}" for name in results.study.arms]
    return [f"Arms: {'; '.join(changed)}."] if changed else []


def seed_note(data: pd.DataFrame, what: str = "line") -> str:
    """What line and band show of the seeds of the finished runs."""
    counts = data.loc[data["status"] == "finished", "seeds"]
    if counts.empty or counts.max() <= 1:
        return "One seed for each network: no band."
    fewest, most = int(counts[counts > 0].min()), int(counts.max())
    seeds = f"{most} seeds" if fewest == most else f"{fewest} to {most} seeds"
    return f"{what.capitalize()}: mean of {seeds}; band: lowest to highest seed."


def divergence_notes(results: Results, drawn: str) -> list[str]:
    """A note naming every diverged run and its step, none if all finished; ``drawn``: how they are drawn."""
    runs = results["runs"]
    lost = runs[runs["status"] == "diverged"] if len(runs) else runs
    if not len(lost):
        return []
    named = [
        in_arm(results.arms[row["run_id"]], row["run_id"].rsplit("-", 1)[0])
        + f" at step {divergence_step(results, row['run_id']):,}"
        for _, row in lost.iterrows()
    ]
    return [f"Diverged, not in any mean or band ({drawn}): {'; '.join(named)}."]


def divergence_step(results: Results, run_id: str) -> int:
    """The first step whose loss was not finite; if that is unknown, the last step with a row."""
    step = results.facts[run_id].get("diverged_step")
    if step is None:
        curves = results["curves"]
        step = curves.loc[curves["run_id"] == run_id, "step"].max()
    return 0 if step != step else int(step)
