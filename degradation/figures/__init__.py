"""A study's results -> figures in files: PNG, SVG or PDF, each with its data as CSV."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from degradation.errors import UserError
from degradation.figures.branches import branches
from degradation.figures.construct import construct
from degradation.figures.curvature import curvature
from degradation.figures.curves import curves
from degradation.figures.depth import depth
from degradation.figures.gradient_flow import gradient_flow
from degradation.figures.heatmap import gradients_heatmap, responses_heatmap
from degradation.figures.identity import identity
from degradation.figures.landscape import landscape
from degradation.figures.layout import provenance_facts
from degradation.figures.lesion import lesion
from degradation.figures.paths import paths
from degradation.figures.published_points import Mark
from degradation.figures.reorder import reorder
from degradation.figures.responses import responses
from degradation.figures.shatter import shatter
from degradation.figures.signal_propagation import cka, signal
from degradation.figures.style import styled
from degradation.frames.schemas import to_csv
from degradation.spec.validation import suggestion
from degradation.store import EXPERIMENTS, Place, as_place, store_at
from degradation.study.results import Results

Draw = Callable[..., tuple[Figure, pd.DataFrame]]
"""A function of results that returns a figure and its data; those of ``MARKED`` take marks as well."""

FIGURES: dict[str, Draw] = {
    "curves": curves,
    "depth": depth,
    "responses": responses,
    "responses-heatmap": responses_heatmap,
    "gradient-flow": gradient_flow,
    "gradients-heatmap": gradients_heatmap,
    "branches": branches,
    "lesion": lesion,
    "reorder": reorder,
    "identity": identity,
    "shatter": shatter,
    "paths": paths,
    "landscape": landscape,
    "curvature": curvature,
    "signal": signal,
    "cka": cka,
    "construct": construct,
}

MARKED = ("curves", "depth")
OF_EXPERIMENT = {name: name for name in EXPERIMENTS} | {"cka": "signal"}
"""Figure -> the experiment that it is drawn from."""
FORMATS = ("png", "svg", "pdf")


@dataclass(frozen=True, kw_only=True)
class DrawnFigures:
    """The written files, and for each figure that could not be drawn a line with the reason."""

    paths: tuple[Place, ...]
    skipped: dict[str, str]


def default_figures(results: Results) -> tuple[str, ...]:
    """The names of a study's figures; those of an experiment only if it has been run."""
    return tuple(name for name in FIGURES if name not in OF_EXPERIMENT or len(results[OF_EXPERIMENT[name]]))


def figure_of(name: str, results: Results, marks: Sequence[Mark] = ()) -> tuple[Figure, pd.DataFrame]:
    """Draw the named figure; figures of errors also get the marks. Raises UserError if a frame is missing."""
    return FIGURES[name](results, marks) if name in MARKED else FIGURES[name](results)


def draw(
    results: Results, names: Sequence[str], formats: Sequence[str], out: str | Path, marks: Sequence[Mark] = ()
) -> DrawnFigures:
    """Write NAME.png, .svg or .pdf and NAME.csv into ``out``; without ``names``, every figure that can be drawn.

    The same frames and library versions give the same bytes. Raises UserError for a name or format that does
    not exist, if no run is done, and for a named figure whose measurements are missing.
    """
    for what, chosen, choices in (("figure", names, tuple(FIGURES)), ("format", formats, FORMATS)):
        for name in chosen:
            if name not in choices:
                raise UserError(f"no {what} {name!r}: choose from {', '.join(choices)}{suggestion(name, choices)}")
    if not results.run_ids:
        raise UserError(f"no run of {results.name} is done: nothing to draw yet")
    folder = as_place(out)
    store = store_at(folder)
    paths: list[Place] = []
    skipped: dict[str, str] = {}
    for name in names or default_figures(results):
        try:
            figure, data = figure_of(name, results, marks)
        except UserError as missing:
            if names:
                raise
            skipped[name] = str(missing)
        else:
            files = {f"{name}.{kind}": image(figure, kind, results) for kind in formats}
            files[f"{name}.csv"] = to_csv(data if results.study.arms else data.drop(columns="arm"))
            for file, content in files.items():
                store.write(file, content)
                paths.append(folder / file)
    return DrawnFigures(paths=tuple(paths), skipped=skipped)


def image(figure: Figure, kind: str, results: Results) -> bytes:
    """The content of a PNG, SVG or PDF file of the figure, with provenance but no date in its metadata."""
    facts = [f"{name} {value}" for name, value in provenance_facts(results).items()]
    description = "; ".join([f"study {results.name}", *facts, *results.study.labels])
    metadata: dict[str, dict[str, Any]] = {
        "png": {"Description": description},
        "svg": {"Description": description, "Date": None},
        "pdf": {"Subject": description, "CreationDate": None},
    }
    title = f"{results.name}: {results.study.question}"
    buffer = io.BytesIO()
    with styled():
        figure.savefig(buffer, format=kind, metadata={"Title": title} | metadata[kind])
    return buffer.getvalue()
