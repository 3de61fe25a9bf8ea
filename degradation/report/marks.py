"""Comparable published values -> marks in the figures of errors."""

from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING

from degradation.figures.published_points import Mark
from degradation.spec import PAPER_STEPS
from degradation.study.results import Results

if TYPE_CHECKING:
    from degradation.analysis import Compared


def marks(results: Results) -> tuple[Mark, ...]:
    """The marks of a study; none, and no analysis, if the schedule is not the paper's or no run is done."""
    papers = any(arm.recipe.steps == PAPER_STEPS for arm in results.study.each_arm.values())
    if not papers or not results.run_ids:
        return ()
    from degradation.analysis import analyse  # a short schedule is drawn without importing the statistics packages

    return marks_of(analyse(results).compared)


def marks_of(compared: "Iterable[Compared]") -> tuple[Mark, ...]:
    """A mark for each published error that is comparable with a measured one."""
    errors = [row.published for row in compared if row.comparable and row.published.quantity == "error"]
    shared = [field.name for field in fields(Mark) if field.name != "error"]  # fields of a published value, too
    return tuple(Mark(error=error.value, **{name: getattr(error, name) for name in shared}) for error in errors)
