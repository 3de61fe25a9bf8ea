"""What was said of a run is kept for each attempt, outside its folder, and `degradation logs` shows it."""

import os
import tempfile
import warnings
from pathlib import Path

import pytest

from degradation.errors import UserError
from degradation.launchers import local, runner, worker_log
from degradation.launchers.attempts import Attempt, LaunchContext, RetryTracker
from degradation.runtime.environment import Options
from degradation.runtime.progress import Progress, silent
from degradation.spec import grid
from degradation.store import StudyFolder
from degradation.study import run_logs
from tests import calling, made
from tests.calling import Command
from tests.made_cluster import crashes, pretended, says_hello
from tests.made_frames import make_study

pytestmark = pytest.mark.slow

command = calling.command
RUN = grid.runs(made.study_spec())[0]


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    folder = StudyFolder(tmp_path, "s")
    folder.write_study(made.study_spec().begun().model_dump(mode="json"))
    return folder


def attempt(folder: StudyFolder, execute, capture=worker_log.captured_warnings, **options) -> str:
    """The log of one attempt."""
    work = LaunchContext(root=str(folder.store.root), study="s", options=Options(**options), execute=execute)
    work.attempt(RUN, silent, lambda: False, capture)
    return "".join(list(run_logs.read(folder, RUN.run_id).values())[-1:])


def say(report, phase="train", **fields):
    report(Progress(run_id=RUN.run_id, phase=phase, steps=9, **fields))


def test_a_log_holds_start_node_rows_and_end(folder):
    def execute(run, folder, options, report, stop):
        say(report, "started")
        for step, loss in [(1, 2.0), (2, 2.0), (3, 1.5)]:
            say(report, step=step, loss=loss)
        say(report, "finished", step=9)
        return "finished"

    head, where, *said, end = attempt(folder, execute).splitlines()
    assert head.startswith(f"{RUN.run_id} of study s, ")
    assert f"node {os.uname().nodename}, process {os.getpid()}, launcher local, degradation" in where
    assert [line.split()[2:6] for line in said[1:-1]] == [["train", "step", str(step), "of"] for step in (1, 3)]
    assert end.endswith("  finished")


def test_a_log_is_there_before_the_run_ends_and_no_seldomer_than_checkpoints(folder):
    there = []

    def execute(run, folder, options, report, stop):
        for step in range(3):
            say(report, "evaluate", step=step)
            there.append("".join(run_logs.read(folder, RUN.run_id).values()).count("evaluate"))
        return "stopped"

    attempt(folder, execute, checkpoint_seconds=0)
    attempt(folder, execute, checkpoint_seconds=1e9)
    assert there == [1, 2, 3, 4, 4, 4]  # of the second attempt the first line alone, until its end
    assert len(run_logs.read(folder, RUN.run_id)) == 2


def test_a_failure_leaves_its_traceback_and_a_held_run_leaves_nothing(folder):
    def held(*_):
        return "held"

    def fails(*_):
        raise RuntimeError("odd")

    assert attempt(folder, held) == ""
    assert "Traceback (most recent call last)" in attempt(folder, fails)
    assert run_logs.logged(folder) == (RUN.run_id,)


def test_in_this_process_warnings_are_kept_and_shown_all_the_same(folder):
    def execute(run, folder, options, report, stop):
        say(report, "started")
        warnings.warn("something is odd", stacklevel=1)
        return "finished"

    with pytest.warns(UserWarning, match="something is odd"):
        assert "something is odd" in attempt(folder, execute)


def test_of_a_worker_process_all_that_it_prints_is_kept_and_nothing_shown(tmp_path, capfd):
    work = pretended(tmp_path, says_hello, jobs=2, threads=1)
    assert local.launch(work, grid.runs(made.study_spec()), silent, lambda: False) == {}
    [said] = run_logs.read(work.folder, RUN.run_id).values()
    for part in ("hello from Python", "something is odd", "hello from a library"):
        assert f"{part}\n" in said
    assert capfd.readouterr() == ("", "")


def test_the_last_words_of_a_worker_that_dies_are_in_the_log_of_its_run(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    work = pretended(tmp_path, crashes, jobs=2, threads=1, checkpoint_seconds=1e9)
    failed = local.launch(work, grid.runs(made.study_spec())[:2], silent, lambda: False)
    assert all("its worker process died (exit code -11" in why for why in failed.values())
    assert len(failed) == 2
    [(_, said)] = run_logs.attempts(run_logs.read(work.folder, RUN.run_id))
    started, *_, died = said.splitlines()[2:]
    assert "  started" in started
    assert "    a library says why" in said
    assert "Fatal Python error: Segmentation fault" in said
    assert died == failed[RUN.run_id]
    assert not list(tmp_path.glob("degradation-*"))


def test_on_a_disk_a_log_is_not_behind_by_more_than_a_second(folder, monkeypatch):
    monkeypatch.setattr(worker_log, "FLUSH_SECONDS", 0)

    def execute(run, folder, options, report, stop):
        say(report, "evaluate", step=1)
        say(report, "evaluate", step=2)
        assert "".join(run_logs.read(folder, RUN.run_id).values()).count("evaluate") == 2
        return "stopped"

    attempt(folder, execute, checkpoint_seconds=1e9)


def test_a_long_log_loses_its_middle(folder, monkeypatch):
    monkeypatch.setattr(worker_log, "MOST_CHARACTERS", 4000)

    def execute(run, folder, options, report, stop):
        for step in range(500):
            say(report, "evaluate", step=step)
        return "finished"

    said = attempt(folder, execute, checkpoint_seconds=1e9)
    assert len(said) < 5000
    assert "characters are left out here" in said
    assert said.startswith(RUN.run_id)
    assert "step 499 of 9" in said


def test_a_log_that_cannot_be_written_fails_no_run(folder, monkeypatch):
    def refused(*_):
        raise UserError("the disk is full")

    monkeypatch.setattr(run_logs, "write", refused)

    def execute(run, folder, options, report, stop):
        say(report, "started")
        return "finished"

    work = LaunchContext(root=str(folder.store.root), study="s", options=Options(), execute=execute)
    assert work.attempt(RUN, silent, lambda: False).ending == "finished"


def test_a_study_that_was_trained_has_a_log_of_every_run_and_folders_of_results_alone(command: Command):
    study = made.study_spec()
    for jobs, seeds in [(1, (0,)), (2, (1,))]:
        grown = study.model_copy(update={"seeds": seeds})
        runner.execute_study(StudyFolder("runs", "s"), grown, Options(jobs=jobs, threads=1), silent)
    folder = StudyFolder("runs", "s")
    assert run_logs.logged(folder) == folder.run_ids()
    for run_id in folder.run_ids():
        assert {file.name for file in folder.run_path(run_id).iterdir()} - {".lock", "done.json"} == set(
            folder.done(run_id)["files"]
        )
    said = command("logs", "s", "plain-8-s1")
    assert said.status == 0, said.err
    assert "attempt 1: " in said.out
    assert "evaluate  step 12 of 12" in said.out
    assert command("status", "s").status == 0


def test_why_a_worker_died_stands_below_what_it_said(command: Command):
    folder = make_study(Path("runs"), depths=(8,), seeds=(0,))
    run_id = folder.run_ids()[0]
    run_logs.write(folder, run_id, "20260101-000000-000-far.away-7", "first\nevaluate\n")
    RetryTracker(folder, silent, 1).ended(RUN, Attempt(why="its worker process died", cause="died"))
    for file, text in run_logs.read(folder, RUN.run_id).items():
        run_logs.write(folder, run_id, file, text)
    run_logs.write(folder, run_id, "29260101-000000-000-far.away-8", "second\nfinished\n")
    lines = [line for line in command("logs", "made", run_id).out.splitlines() if line]
    assert lines == [
        f"2 attempts at {run_id} so far",
        *("attempt 1: 20260101-000000-000-far.away-7", "first", "evaluate", "its worker process died"),
        *("attempt 2: 29260101-000000-000-far.away-8", "second", "finished"),
    ]


def test_a_worker_that_died_before_it_said_anything_has_made_an_attempt():
    said = {"1": "first\n", "2-note": "died\n", "3-note": "died again\n", "4": "last\n"}
    assert run_logs.attempts(said) == [("1", "first\ndied\n"), ("3-note", "died again\n"), ("4", "last\n")]


def test_a_run_is_named_by_the_beginning_that_no_other_has(command: Command):
    folder = make_study(Path("runs"), depths=(8,), seeds=(1, 10))
    for run_id in folder.run_ids():
        run_logs.write(folder, run_id, run_logs.attempt_name(), f"this is {run_id}\n")
    short = command("logs", "made", "plain-8-s1")
    assert "this is plain-8-s1-" in short.out
    several = command("logs", "made", "plain")
    assert several.status == 2
    assert "'plain' means 2 runs of study made: expected one of plain-8-s1" in several.err
    unknown = command("logs", "made", "plian-8-s1")
    assert unknown.status == 2
    assert "no run 'plian-8-s1' in study made: 4 are there; did you mean plain-8-s1?" in unknown.err
    assert several.err.count("\n") == unknown.err.count("\n") == 1


def test_the_arms_of_runs_that_share_a_name_are_shown(folder):
    run_ids = ("plain-8-s0-aaaaaaaa", "plain-8-s0-bbbbbbbb")
    with pytest.raises(UserError, match=r"aaaaaaaa \(sgd\), plain-8-s0-bbbbbbbb \(adam\)"):
        run_logs.find(folder, "plain-8-s0", dict(zip(run_ids, ("sgd", "adam"), strict=True)))


def test_without_a_run_the_runs_that_have_a_log_are_named(command: Command):
    folder = make_study(Path("runs"), depths=(8,), seeds=(0,))
    assert "no run of made has a log" in command("logs", "made").out
    first, second = folder.run_ids()
    for name in ("20260101-000000-000-far.away-7", "20260101-000000-001-near-8", "20260101-000001-001-here-9-note"):
        run_logs.write(folder, first, name, "said\n")
    run_logs.note(folder, second, "its worker process died\n")
    assert command("logs", "made").out.splitlines() == [
        f"{first}  attempts 2, the last 20260101-000000-001-near-8",
        f"{second}  attempts 1, without a log",
    ]


def test_the_name_of_an_attempt_says_node_and_process():
    assert run_logs.worker("20260101-000000-000-far-away.org-7") == ("far-away.org", 7)
    assert run_logs.worker(run_logs.attempt_name()) == (os.uname().nodename, os.getpid())
    with pytest.raises(ValueError, match="note"):
        run_logs.worker("20260101-000000-000-far-away.org-7-note")


def test_a_planned_run_that_nobody_has_begun_has_no_log(command: Command):
    folder = StudyFolder("runs", "s")
    folder.write_study(made.study_spec().begun().model_dump(mode="json"))
    said = command("logs", "s", "plain-8-s0")
    assert (said.status, said.err) == (0, "")
    assert "no worker has started it" in said.out


def test_clean_frees_logs_but_those_of_runs_in_training(command: Command):
    folder = make_study(Path("runs"), depths=(8,), seeds=(0,))
    first, second = folder.run_ids()
    for run_id in (first, second):
        run_logs.write(folder, run_id, "1", "x" * 1000)
    with folder.lock(first):
        assert "logs of 1 run: output of their workers" in " ".join(command("clean", "made").out.split())
        assert "1.0 kB freed" in command("clean", "made", "--yes").out
    assert run_logs.logged(folder) == (first,)
    run_logs.write(folder, second, "1", "x")
    command("clean", "made", "--run", first, "--yes")
    assert run_logs.logged(folder) == (second,)
