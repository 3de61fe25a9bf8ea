"""`published.toml` -> published values, each with the measured one if the runs follow the paper's recipe."""

import tomllib
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from degradation.analysis.estimates import NOT_MEASURED, Compared, Estimate, Published
from degradation.analysis.intervals import half_width_of_next
from degradation.analysis.runs import Runs
from degradation.spec import PAPER_STEPS, Cifar10, Recipe, RunSpec, flatten
from degradation.study.results import Results

MEASURED_AS = {
    ("error", "end"): "final-error",
    ("error", "before first drop"): "error-before-drop",
    ("response", "end"): "response-middle",
}
"""Quantity and time of a published value -> the name of the estimate to compare it with."""
# Fields that may differ from the paper's run: network, measurements, and the paper's own warm-up.
FREE = ("schema_number", "network", "depth", "shortcut", "seed", "precision", "start")
FREE_GROUPS = ("measure.", "recipe.warmup_")


@cache
def published() -> tuple[Published, ...]:
    """Every published value, in the file's order."""
    text = files("degradation.analysis").joinpath("published.toml").read_text(encoding="utf-8")
    return tuple(row for table in tomllib.loads(text)["table"] for row in _rows(**table))


def _rows(
    *, values: dict[str, float], reading: float = 0.0, quantity: str = "error", **table: Any
) -> Iterator[Published]:
    for depth, value in values.items():
        yield Published(**table, depth=int(depth), value=value, reading_error=reading, quantity=quantity)


def compare_with_published(results: Results, runs: Runs, estimates: Sequence[Estimate]) -> tuple[Compared, ...]:
    """The published values of the networks in the study, each with the measured value, arm by arm."""
    study = results.study
    rows = [row for row in published() if row.network in study.networks and row.depth in study.depths]
    return tuple(_compared(row, each, _specs(results, runs, each)) for row in rows for each in _fitting(row, estimates))


def _fitting(row: Published, estimates: Sequence[Estimate]) -> list[Estimate] | list[None]:
    """The estimates of what was published; a single None if there is none with a value."""
    context = {name: str(getattr(row, name)) for name in ("network", "shortcut", "depth", "split", "statistics")}
    name = MEASURED_AS[row.quantity, row.at]
    fitting = [each for each in estimates if each.name == name and context.items() <= each.context.items()]
    return [each for each in fitting if each.value is not None] or [None]


def _compared(row: Published, estimate: Estimate | None, specs: Sequence[RunSpec]) -> Compared:
    why_not = departures(specs)
    if estimate is None or estimate.value is None or why_not:
        return Compared(published=row, measured=estimate, why_not=why_not or NOT_MEASURED)
    size = 100.0 if estimate.unit == "percent" else 1.0
    difference, within = estimate.value / size - row.value, _within_seeds(row, estimate, size)
    return Compared(published=row, measured=estimate, difference=difference, within_seeds=within, comparable=True)


def _within_seeds(row: Published, estimate: Estimate, size: float) -> bool | None:
    """Whether the published value is in the prediction interval for the mean of its runs, widened by its reading error.

    None with one seed: its spread is unknown. Student's t prediction interval (Hahn and Meeker 1991, chapter 4).
    """
    half = half_width_of_next(estimate.values, row.runs)
    if half is None or estimate.value is None:
        return None
    return abs(estimate.value - size * row.value) <= half + size * row.reading_error


def _specs(results: Results, runs: Runs, estimate: Estimate | None) -> list[RunSpec]:
    """The runs of an estimate: its network in its arm; without an estimate every done run."""
    context = {} if estimate is None else estimate.context
    return [
        results.specs[run.run_id]
        for run in runs.every
        if not context or (run.arm, run.kind, str(run.depth)) == (context["arm"], context["kind"], context["depth"])
    ]


def departures(specs: Sequence[RunSpec]) -> str:
    """How the runs differ from the paper's (section 4.2), as ``700 steps, not 64,000``; empty if they do not."""
    networks = dict.fromkeys(spec.model_copy(update={"seed": 0}) for spec in specs)
    return "; ".join(dict.fromkeys(text for spec in networks for text in _departures(spec)))


def _departures(spec: RunSpec) -> Iterator[str]:
    """How one run differs from the paper's run of its network, which has the default of every field."""
    network = spec.model_dump(include={"network", "depth", "shortcut", "seed"})
    papers_run = RunSpec(dataset=Cifar10(), recipe=Recipe(steps=PAPER_STEPS), **network)
    fields, papers = flatten(spec), flatten(papers_run)
    for name in dict.fromkeys([*fields, *papers]):
        ours, theirs = fields.get(name), papers.get(name)
        if name in FREE or name.startswith(FREE_GROUPS) or ours == theirs:
            continue
        if name == "recipe.steps":
            yield f"{ours:,} steps, not {theirs:,}"
        elif name == "dataset.name" or not name.startswith("dataset.") or spec.dataset.name == "cifar10":
            yield f"{name} {ours}, not {theirs}"
