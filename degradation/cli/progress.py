"""Progress messages -> a bar for the study and for each run on a terminal, plain lines elsewhere."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Column

from degradation.cli.formatting import short
from degradation.runtime.progress import LASTING, OnProgress, Phase, Progress, line
from degradation.runtime.study_share import StudyShare
from degradation.spec import RunSpec

PASSING: tuple[Phase, ...] = ("train", "evaluating", "measure")  # too many for lines
NAME_WIDTH, OTHER_WIDTH = 17, 78  # characters: least width of a run's name, width of the other columns
ETA_SECONDS = 300.0  # speed of the last minutes only: deep runs come after shallow ones


@contextmanager
def watching(out: Console, runs: Mapping[str, RunSpec], arms: Mapping[str, str] | None = None) -> Iterator[OnProgress]:
    """The progress callback for these run ids; ``arms`` names the arm of each. A closed stdout stops nothing."""
    if not out.is_terminal:
        yield ProgressLines(out, len(runs), arms or {})
        return
    with Bars(*_columns(), console=out, speed_estimate_period=ETA_SECONDS, refresh_per_second=4) as bars:
        yield ProgressBars(bars, runs, arms or {})


class ProgressLines:
    """One line for the start, each evaluation and the end of a run, with the time and the number of ended runs."""

    def __init__(self, out: Console, runs: int, arms: Mapping[str, str]) -> None:
        self.out, self.runs, self.arms = out, runs, arms
        self.ended = 0

    def __call__(self, progress: Progress) -> None:
        if progress.phase in PASSING:
            return
        text = line(progress, self.arms.get(progress.run_id, ""))
        if progress.phase in LASTING:
            self.ended += 1
            text += f"  ({self.ended} of {self.runs})"
        with suppress(BrokenPipeError):
            self.out.print(text, soft_wrap=True)


class ProgressBars:
    """A bar for the study, weighted by the work of each run, and one for each run in progress."""

    def __init__(self, bars: Bars, runs: Mapping[str, RunSpec], arms: Mapping[str, str]) -> None:
        self.bars, self.runs, self.arms = bars, runs, arms
        self.share = StudyShare(runs)
        self.tasks: dict[str, TaskID] = {}
        self.study = bars.add_task("study", total=self.share.whole, text=self._counted())

    def __call__(self, progress: Progress) -> None:
        self.share.add(progress)
        if (progress.phase in LASTING or progress.phase == "waiting") and progress.run_id in self.tasks:
            self.bars.remove_task(self.tasks.pop(progress.run_id))
        if progress.phase in LASTING or progress.message:
            text = line(progress, self.arms.get(progress.run_id, ""))
            self.bars.console.print(text, soft_wrap=True)
        elif progress.steps:
            self._update(progress)
        self.bars.update(self.study, completed=self.share.completed, text=self._counted())

    def _update(self, progress: Progress) -> None:
        run_id = progress.run_id
        if run_id not in self.tasks:
            self.tasks[run_id] = self.bars.add_task(self._name(run_id), text="")
        completed, total = progress.part or (progress.step, progress.steps + (progress.unit == "step"))
        self.bars.update(self.tasks[run_id], completed=completed, total=total, text=_text(progress))

    def _name(self, run_id: str) -> str:
        """The run and its arm, cut to the width of the line."""
        name = " ".join(filter(None, (short(self.runs[run_id]), self.arms.get(run_id))))
        width = max(NAME_WIDTH, self.bars.console.width - OTHER_WIDTH)
        return name if len(name) <= width else f"{name[: width - 1]}…"

    def _counted(self) -> str:
        running, ended = len(self.tasks), self.share.ended
        return f"{ended} done, {running} running, {len(self.runs) - ended - running} waiting"


def _text(progress: Progress) -> str:
    """``1,234 loss 0.412 error 12.50% 1,234 img/s node``, step first; a missing part is omitted."""
    parts = [
        "evaluating at" if progress.phase in ("evaluate", "evaluating") else "",
        f"{progress.step:,}",
        *progress.last_row(digits=3),
        f"{progress.images_per_second:,.0f} img/s" if progress.images_per_second else "",
        progress.node,
    ]
    return " ".join(filter(None, parts))


def _columns() -> tuple[ProgressColumn, ...]:
    """Name, bar, percentage, the text of ``_text``, remaining time; cut to the terminal's width."""
    return (
        TextColumn("{task.description}", table_column=Column(no_wrap=True, min_width=NAME_WIDTH)),
        BarColumn(bar_width=6),
        TextColumn("{task.percentage:>3.0f}%", table_column=Column(no_wrap=True, min_width=4)),
        TextColumn("{task.fields[text]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
        TimeRemainingColumn(table_column=Column(no_wrap=True, min_width=7)),
    )
