"""In a notebook's cell a study shows one output, which every message replaces."""

import time
from pathlib import Path
from typing import Any

import IPython.display
import pytest

import degradation
from degradation.runtime import notebook
from degradation.runtime.progress import Progress
from degradation.spec import StudySpec, grid
from tests import made

RUNS = grid.runs(StudySpec(depths=(8, 20)))


class Cell:
    """What a cell shows: one entry an output, each a list of what it was one after the other."""

    def __init__(self) -> None:
        self.outputs: list[list[str]] = []

    def display(self, shown: Any, *, display_id: bool = False) -> "Cell":
        assert display_id
        self.outputs.append([shown._repr_html_()])
        return self

    def update(self, shown: Any) -> None:
        self.outputs[-1].append(shown._repr_html_())


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Cell:
    found = Cell()
    monkeypatch.setattr(IPython.display, "display", found.display)
    return found


def message(run: int, phase: str, step: int = 0, **fields: object) -> Progress:
    return Progress(run_id=RUNS[run].run_id, phase=phase, step=step, steps=100, **fields)  # type: ignore[arg-type]


def test_hundreds_of_messages_are_one_output_that_is_drawn_twice_a_second(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    report = notebook.NotebookProgress({run.run_id: run for run in RUNS})
    for step in range(100):
        report(message(0, "train", step, loss=1.5, error=0.25))
        now[0] += 0.01
    assert [len(shown) for shown in cell.outputs] == [2]
    assert f"{RUNS[0].run_id}: step 50 of 100, loss 1.5000, error 25.00 %" in cell.outputs[0][-1]
    report(message(0, "finished", 100))
    assert f"1 of {len(RUNS)} runs done after 0:00:01, about 0:0" in cell.outputs[0][-1]
    assert "<progress" in cell.outputs[0][-1]


def test_the_time_left_is_judged_by_what_was_done_here(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    report = notebook.NotebookProgress({RUNS[0].run_id: RUNS[0]})
    for seconds, step in ((0, 50), (1, 50), (10, 60)):  # continued from step 50 on
        now[0] = seconds
        report(message(0, "train", step))
    assert "0 of 1 runs done after 0:00:01; " in cell.outputs[0][-2]
    assert "0 of 1 runs done after 0:00:10, about 0:00:41 left; " in cell.outputs[0][-1]


def test_at_the_end_one_line_is_left_that_names_what_diverged(cell: Cell) -> None:
    report = notebook.NotebookProgress({run.run_id: run for run in RUNS[:2]})
    report(message(0, "diverged", 7))
    report(message(1, "finished", 100))
    assert cell.outputs[0][-1] == f"<div>2 of 2 runs done in 0:00:00; {RUNS[0].run_id} diverged</div>"


def test_what_a_run_says_is_escaped(cell: Cell) -> None:
    report = notebook.NotebookProgress({RUNS[0].run_id: RUNS[0]})
    report(message(0, "note", message="<b>no</b> CUDA graph here"))
    assert "&lt;b&gt;no&lt;/b&gt; CUDA graph here" in cell.outputs[0][-1]


@pytest.mark.parametrize("there", [True, False])
def test_run_shows_a_cell_in_a_notebook_and_nothing_elsewhere(
    there: bool, cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(notebook, "in_notebook", lambda: there)
    study = made.study_spec(depths=(8,), seeds=(0,), networks=("plain",))
    degradation.run(study, name="mine", root=tmp_path)
    assert [shown[-1].split(" in ")[0] for shown in cell.outputs] == ["<div>1 of 1 runs done"] * there
    degradation.run(study, name="mine", root=tmp_path)
    assert len(cell.outputs) == there, "nothing is shown where nothing is to do"
    assert capfd.readouterr().out == ""
