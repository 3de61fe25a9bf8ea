"""How each planned run stands is read from its folder."""

from pathlib import Path

from degradation import frames, plan
from degradation.spec import RunSpec, StudySpec
from degradation.store import StudyFolder
from tests import calling
from tests.calling import Command
from tests.made_frames import make_study

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
    curves = frames.from_parquet(folder.file(done, "curves.parquet"))
    clean = curves.query("split == 'train' and statistics == 'running'").iloc[-1]
    assert runs[done]["last_row"] == {"step": 640, "loss": clean.loss, "error": clean.error}
    assert runs[pending]["last_row"] is None
    assert "curves.parquet does not hold what was written" in text


def _by_depth(folder: StudyFolder) -> list[RunSpec]:
    study = StudySpec.model_validate(folder.study())
    return sorted(plan.runs(study), key=lambda run: (run.depth, run.network))
