"""How each planned run stands is read from its folder."""

from pathlib import Path

import pytest

from degradation.frames import schemas
from degradation.launchers import runner
from degradation.runtime.environment import Options
from degradation.runtime.progress import silent
from degradation.spec import RunSpec, StudyRecipe, StudySpec, grid
from degradation.store import StudyFolder
from degradation.study import library
from degradation.study.pairs import matches
from degradation.study.results import Results
from degradation.study.status import run_statuses
from degradation.training.checkpoint import Checkpoint, encode
from tests import calling
from tests.calling import Command
from tests.made_frames import make_study, older, write_run

REPORT = Path(__file__).parent.parent / "reports" / "cifar10-short"

command = calling.command


def test_status_lists_studies_with_what_is_done(command: Command) -> None:
    assert "no study under runs yet" in command("status").out
    make_study(Path("runs"), depths=(8,), seeds=(0,))
    assert command("status", "--json").json == [{"name": "made", "done": 2, "runs": 2}]
    assert "made" in command("status").out


def test_status_of_a_study_shows_each_state_and_the_last_clean_error(command: Command) -> None:
    folder = make_study(Path("runs"), depths=(8, 14, 20), seeds=(0,), diverged=[("plain", 8, 0)])
    diverged, done, damaged, partial, pending, running = (run.run_id for run in _by_depth(folder))
    (folder.run_path(damaged) / "curves.parquet").write_bytes(b"other")
    for run_id in (partial, running, pending):
        (folder.run_path(run_id) / "done.json").unlink()
    for run_id in (running, pending):
        (folder.run_path(run_id) / "facts.json").unlink()  # with it, done.json would be missed
    folder.write_checkpoint(partial, b"")
    with folder.lock(running):
        runs = {run["run_id"]: run for run in command("status", "made", "--json").json["runs"]}
        text = command("status", "runs/made").out
    states = {run_id: run["state"] for run_id, run in runs.items()}
    assert states == {
        diverged: "diverged",
        done: "done",
        damaged: "damaged",
        partial: "partial",
        running: "running",
        pending: "pending",
    }
    curves = schemas.from_parquet(folder.file(done, "curves.parquet"))
    clean = curves.query("split == 'train' and statistics == 'running'").iloc[-1]
    assert runs[done]["last_row"] == {"step": 640, "loss": clean.loss, "error": clean.error}
    assert runs[pending]["last_row"] is None
    assert "curves.parquet does not hold what was written" in text


def test_status_shows_the_last_row_of_a_checkpoint(command: Command) -> None:
    folder = make_study(Path("runs"), depths=(8,), seeds=(0,))
    partial = _by_depth(folder)[0].run_id
    (folder.run_path(partial) / "done.json").unlink()
    rows = [
        {"step": step, "split": split, "statistics": "batch", "loss": 2.0, "error": 0.5}
        for step, split in ((50, "train_running"), (50, "train"), (60, "train_running"))
    ]
    folder.write_checkpoint(partial, encode(Checkpoint(tensors={}, rows=rows, facts={})))
    runs = {run["run_id"]: run for run in command("status", "made", "--json").json["runs"]}
    assert runs[partial]["state"] == "partial"
    assert runs[partial]["last_row"]["error"] == 0.5
    assert "50.00%" in command("status", "made").out


def _by_depth(folder: StudyFolder) -> list[RunSpec]:
    study = StudySpec.model_validate(folder.study())
    return sorted(grid.runs(study), key=lambda run: (run.depth, run.network))


def test_runs_of_an_older_schema_are_done_under_the_ids_that_their_folders_bear(tmp_path):
    study = StudySpec(depths=(8,), seeds=(0,), recipe=StudyRecipe(steps=160))
    folder = StudyFolder(tmp_path, "old")
    for run, old_id in zip(grid.runs(study), ("plain-8-s0-00000000", "residual-A-8-s0-11111111"), strict=True):
        write_run(folder, run, old_id=old_id)
    folder.write_study({name: value for name, value in study.begun().model_dump(mode="json").items() if name != "arms"})
    assert runner.pending(folder, study) == ()
    outcome = runner.execute_study(folder, study, Options(jobs=1), silent)
    assert outcome.finished == ("plain-8-s0-00000000", "residual-A-8-s0-11111111")
    assert {found.state for found in run_statuses(folder, study, verify=True)} == {"done"}
    assert all(match.holds for match in matches(folder, study))
    results = Results(folder)
    assert set(results["curves"]["run_id"]) == set(outcome.finished)
    assert results.axes == ("shortcut",)


def test_an_unfinished_run_of_an_older_schema_does_not_hide_the_done_one(tmp_path):
    study = StudySpec(depths=(8,), networks=("plain",), recipe=StudyRecipe(steps=160))
    [run] = grid.runs(study)
    folder = StudyFolder(tmp_path, "old")
    folder.write_spec("plain-8-s0-zzzzzzzz", older(run))
    write_run(folder, run)
    assert [found.state for found in run_statuses(folder, study)] == ["done"]


@pytest.mark.skipif(not REPORT.is_dir(), reason="the reports are in the repository alone")
def test_the_study_that_the_repository_holds_is_done_and_loads():
    folder = StudyFolder(REPORT.parent, REPORT.name)
    study = library.read(library.shipped()["cifar10-short"])
    asked = runner.grow(folder, study.model_copy(update={"precision": library.stored(folder).precision}))
    assert len(grid.runs(asked)) == 24
    assert runner.pending(folder, asked) == ()
    assert len(Results(folder).run_ids) == 24


def test_a_damaged_study_json_hides_no_other_study(command: Command) -> None:
    make_study(Path("runs"), "whole", depths=(8,), seeds=(0,))
    make_study(Path("runs"), "broken", depths=(8,), seeds=(0,))
    Path("runs/broken/study.json").write_text("{")
    said = command("status")
    assert said.status == 2
    assert "whole" in said.out
    assert said.err.startswith("degradation: runs/broken/study.json is not JSON")
    assert said.err.count("\n") == 1
    broken = command("status", "--json").json[1]
    assert (broken["name"], "is not JSON" in broken["damaged"]) == ("broken", True)
