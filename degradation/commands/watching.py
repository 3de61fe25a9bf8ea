"""Progress messages -> a bar for the study and for each run on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from degradation import plan
from degradation.commands.console import count, percent
from degradation.progress import Phase, Progress, Report
from degradation.spec import RunSpec

LASTING: tuple[Phase, ...] = ("finished", "diverged", "failed")
PASSING: tuple[Phase, ...] = ("train", "measure")  # too many for lines
ETA_SECONDS = 300.0  # the speed of the last minutes, because deep runs follow shallow ones


@contextmanager
def watching(out: Console, runs: Sequence[RunSpec] | Mapping[str, RunSpec]) -> Iterator[Report]:
    """The report to work on the runs with, or on runs by their ids on disk. A reader that goes away ends nothing."""
    if not out.is_terminal:
        yield Lines(out)
        return
    with Bars(*_columns(), console=out, speed_estimate_period=ETA_SECONDS, refresh_per_second=4) as bars:
        yield Live(bars, runs if isinstance(runs, Mapping) else {run.run_id: run for run in runs})


class Lines:
    """One line for the start, each evaluation and the end of a run, with the time of day."""

    def __init__(self, out: Console) -> None:
        self.out = out

    def __call__(self, progress: Progress) -> None:
        if progress.phase not in PASSING:
            with suppress(BrokenPipeError):
                self.out.print(line(progress), soft_wrap=True)


def line(progress: Progress) -> str:
    """``12:34:56  plain-20-s0-1c2f9a7e  evaluate  step 100 of 700  loss 2.0312  error 70.20%``."""
    parts = [
        f"{time.strftime('%H:%M:%S')}  {progress.run_id}  {progress.phase}",
        f"{progress.unit} {progress.step:,} of {progress.steps:,}" if progress.steps else "",
        f"loss {progress.loss:.4f}" if progress.loss is not None else "",
        f"error {percent(progress.error)}" if progress.error is not None else "",
        f"{progress.images_per_second:,.0f} images/s" if progress.images_per_second else "",
        progress.message,
    ]
    return "  ".join(part for part in parts if part)


class Live:
    """A bar for the study, weighted by multiply-adds, and one for each run in progress."""

    def __init__(self, bars: Bars, runs: Mapping[str, RunSpec]) -> None:
        self.bars = bars
        self.weights = {run_id: _work(run) for run_id, run in runs.items()}
        self.parts = dict.fromkeys(self.weights, 0.0)
        self.ended = 0
        self.tasks: dict[str, TaskID] = {}
        self.study = bars.add_task("study", total=sum(self.weights.values()), **self._counted())

    def __call__(self, progress: Progress) -> None:
        run_id = progress.run_id
        if progress.phase in LASTING:
            self._end(progress)
        elif progress.message:
            self.bars.console.print(line(progress), soft_wrap=True)
        elif progress.steps:
            self.parts[run_id] = self.weights[run_id] * progress.step / progress.steps
            if run_id not in self.tasks:
                self.tasks[run_id] = self._add(progress)
            self.bars.update(self.tasks[run_id], completed=progress.step, **_shown(progress))
        self.bars.update(self.study, completed=sum(self.parts.values()), **self._counted())

    def _add(self, progress: Progress) -> TaskID:
        name = progress.run_id.rsplit("-", 1)[0]
        return self.bars.add_task(name, total=progress.steps, **_shown(progress))

    def _end(self, progress: Progress) -> None:
        self.ended += 1
        self.parts[progress.run_id] = self.weights.get(progress.run_id, 0.0)
        if progress.run_id in self.tasks:
            self.bars.remove_task(self.tasks.pop(progress.run_id))
        self.bars.console.print(line(progress), soft_wrap=True)

    def _counted(self) -> dict[str, Any]:
        return {"measured": f"{self.ended} of {count(len(self.weights), 'run')}", "speed": ""}


def _work(run: RunSpec) -> float:
    return float(plan.multiply_adds_of(run) * run.recipe.steps)


def _shown(progress: Progress) -> dict[str, Any]:
    loss = f"loss {progress.loss:.3f}" if progress.loss is not None else ""
    speed = f"{progress.images_per_second:,.0f} img/s" if progress.images_per_second else ""
    return {"measured": f"{loss} {percent(progress.error)}".strip(), "speed": speed}


def _columns() -> tuple[ProgressColumn, ...]:
    """Name, bar, share, loss and error, images a second, time left: within 80 columns."""
    return (
        TextColumn("{task.description:<17}"),
        BarColumn(bar_width=10),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[measured]:<17}"),
        TextColumn("{task.fields[speed]:>12}"),
        TimeRemainingColumn(),
    )
