"""Gradient and response frames -> charts of every recorded step: lines in a drawing's own units, for page and slider.

The page draws a chart at any step from the same numbers: the template at four steps, the slider at the chosen one.
"""

import math
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from degradation.errors import UserError
from degradation.figures import style
from degradation.figures.tidy import kinds, of_kind, over_seeds, prefer, series, study_frame
from degradation.study.results import Results

LEFT, RIGHT, TOP, BOTTOM = 46, 326, 12, 200  # of the plot; around it are ticks, labels and the depth at a line's end
SMALL_MULTIPLES = 4
DASHES = {"none": "6 2", "A": "", "B": "9 2 2 2", "C": "2 2"}
DOTTED = "1 3"  # a diverged run


@dataclass(frozen=True, kw_only=True)
class ChartSpec:
    """The column of a frame that a chart shows, and the chart's texts."""

    slug: str
    frame: str
    column: str
    logarithmic: bool
    heading: str
    axis: str
    see: str


WHERE = "in which layers, and whether residual ones fall below plain ones."
QUANTITIES = (
    ChartSpec(
        slug="gradients",
        frame="gradients",
        column="weight_grad_norm",
        logarithmic=True,
        heading="Gradient norm of each layer's weight",
        axis="gradient norm (logarithmic)",
        see="A level line is a healthy gradient. At step 0 deeper plain networks may rise toward layer 1: watch "
        "whether they still do after the first steps.",
    ),
    ChartSpec(
        slug="responses",
        frame="responses",
        column="std",
        logarithmic=False,
        heading="Standard deviation of each layer's response",
        axis="std of the response",
        see=f"Batch norm starts every response at 1. Watch which networks move away from it, {WHERE}",
    ),
)


@dataclass(frozen=True, kw_only=True)
class ChartLine:
    """One network's line: x of each layer, and for each step the y of each layer; None if nothing is drawn."""

    key: str
    name: str
    end: str
    colour: str
    dash: str
    x: tuple[float, ...]
    y: tuple[tuple[float | None, ...], ...]


class Tick(NamedTuple):
    at: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """The lines of one kind of network, with axes shared by all steps and kinds of a quantity."""

    title: str
    colour: str
    lines: tuple[ChartLine, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


@dataclass(frozen=True, kw_only=True)
class Evolution:
    """One quantity over all recorded steps: a chart for each kind of network; ``shown`` are indices into ``steps``."""

    quantity: ChartSpec
    steps: tuple[int, ...]
    shown: tuple[int, ...]
    charts: tuple[Chart, ...]

    @property
    def numbers(self) -> dict[str, Any]:
        """Data of the slider: the steps, and for each line its x and its y at every step."""
        lines = {line.key: {"x": line.x, "y": line.y} for chart in self.charts for line in chart.lines}
        return {"steps": self.steps, "lines": lines}


def evolutions(results: Results) -> tuple[Evolution, ...]:
    """The evolution of every quantity that the study recorded; each diverged run is a separate line."""
    norms = {arm.norm for arm in results.study.each_arm.values()}
    recorded = []
    for quantity in QUANTITIES:
        with suppress(UserError):  # reported with the figures that need the same probe
            frame = study_frame(results, quantity.frame)
            recorded.append(_evolution(results, _of_norms(quantity, norms), frame))
    return tuple(recorded)


def _of_norms(quantity: ChartSpec, norms: Collection[str]) -> ChartSpec:
    """The quantity with a text that fits the norms: the first response is known only with batch norm."""
    if quantity.frame != "responses" or norms == {"batch"}:
        return quantity
    start = "With batch norm every response starts at 1. " if "batch" in norms else ""
    return replace(quantity, see=f"{start}Watch how the responses change, {WHERE}")


def _evolution(results: Results, quantity: ChartSpec, frame: pd.DataFrame) -> Evolution:
    chosen = prefer(frame, "batch") if "statistics" in frame else frame
    data = over_seeds(chosen, quantity.column, ["step", "layer"])
    steps = tuple(int(step) for step in sorted(data["step"].unique()))
    axes = _Axes(data["mean"].to_numpy(dtype=float), int(data["layer"].max()), quantity.logarithmic)
    charts = tuple(
        Chart(
            title=style.kind_name(kind),
            colour=style.COLOURS[kind.network],
            lines=tuple(_lines(of_kind(data, kind), results, quantity, steps, axes)),
            x_ticks=axes.x_ticks,
            y_ticks=axes.y_ticks,
        )
        for kind in kinds(data)
    )
    shown = tuple(int(place) for place in np.unique(np.linspace(0, len(steps) - 1, SMALL_MULTIPLES).round()))
    return Evolution(quantity=quantity, steps=steps, shown=shown, charts=charts)


def _lines(
    data: pd.DataFrame, results: Results, quantity: ChartSpec, steps: tuple[int, ...], axes: "_Axes"
) -> Iterator[ChartLine]:
    for key, rows in series(data):
        wide = rows.pivot(index="step", columns="layer", values="mean").reindex(list(steps))
        name = style.network_name(key)
        yield ChartLine(
            key=f"{quantity.slug}-{name}-{key.run}" if key.diverged else f"{quantity.slug}-{name}",
            name=f"{name}, seed {results.specs[key.run].seed}, diverged" if key.diverged else name,
            end=f"{key.depth}×" if key.diverged else str(key.depth),
            colour=style.shade(key.network, key.depth, results.study.depths),
            dash=DOTTED if key.diverged else DASHES[key.shortcut],
            x=tuple(axes.x(int(layer)) for layer in wide.columns),
            y=tuple(tuple(axes.y(float(value)) for value in row) for row in wide.to_numpy(dtype=float)),
        )


class _Axes:
    """The scales of one quantity: layers to x, values (or their logarithm) to y."""

    def __init__(self, values: "np.ndarray[Any, Any]", layers: int, logarithmic: bool) -> None:
        self.layers, self.logarithmic = layers, logarithmic
        numbers = values[np.isfinite(values) & ((values > 0) | (not logarithmic))]
        numbers = np.log10(numbers) if logarithmic else numbers
        low, self.high = (float(numbers.min()), float(numbers.max())) if len(numbers) else (0.0, 1.0)
        self.low = min(low, self.high - 1) if logarithmic else 0.95 * low if 2 * low > self.high else 0.0
        ticks = map(int, MaxNLocator(5, integer=True).tick_values(1, layers))
        named = [1, *(layer for layer in ticks if 1 + layers / 10 < layer <= layers)]
        self.x_ticks = tuple(Tick(at=self.x(layer), text=str(layer)) for layer in named)
        places = map(float, MaxNLocator(5, integer=logarithmic).tick_values(self.low, self.high))
        shown = [place for place in places if self.low <= place <= self.high]
        self.y_ticks = tuple(Tick(at=self._place(place), text=self._text(place)) for place in shown)

    def x(self, layer: int) -> float:
        return round(LEFT + (RIGHT - LEFT) * (layer - 1) / max(self.layers - 1, 1), 1)

    def y(self, value: float) -> float | None:
        """The position of a value, None if it is missing or has no logarithm."""
        if not math.isfinite(value) or (self.logarithmic and value <= 0):
            return None
        return self._place(math.log10(value) if self.logarithmic else value)

    def _place(self, value: float) -> float:
        return round(BOTTOM - (BOTTOM - TOP) * (value - self.low) / max(self.high - self.low, 1e-12), 1)

    def _text(self, place: float) -> str:
        if not self.logarithmic:
            return f"{place:g}"
        return f"{10**place:g}" if -4 <= place <= 4 else f"1e{place:g}"


def path(line: ChartLine, step: int) -> str:
    """The line at the step of that index as the ``d`` of an SVG path; with a gap where nothing was measured."""
    parts, drawing = [], False
    for x, y in zip(line.x, line.y[step], strict=True):
        if y is not None:
            parts.append(f"{'L' if drawing else 'M'}{x:g} {y:g}")
        drawing = y is not None
    return "".join(parts)


def end(line: ChartLine, step: int) -> tuple[float, float] | None:
    """The end of the line at that step, for its label; None if it has no point."""
    points = [(x, y) for x, y in zip(line.x, line.y[step], strict=True) if y is not None]
    return points[-1] if points else None
