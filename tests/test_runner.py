"""A study carried out: in one process or several, killed at any moment, by two commands at once, with damage."""

import io
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from degradation.cli.progress import watching
from degradation.data import load_images
from degradation.errors import Interrupted, UserError
from degradation.launchers import runner
from degradation.runtime.environment import Options
from degradation.runtime.progress import silent
from degradation.spec import Measure, grid
from degradation.store import StudyFolder, snapshot_file
from degradation.study import run_logs
from degradation.study.cleanup import leftovers
from degradation.study.results import load
from degradation.training.checkpoint import encode
from degradation.training.execute import execute
from degradation.training.trainer import Training
from tests import made

pytestmark = pytest.mark.slow

ONE = Options(jobs=1, threads=1, checkpoint_seconds=0)
FRAMES = ("curves", "gradients", "responses", "branches")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    return runner.run(made.study_spec(), name="s", root=root, options=ONE)


def assert_same_frames(found, expected):
    for name in FRAMES:
        pd.testing.assert_frame_equal(found[name], expected[name])
    facts = ["run_id", "weight_hash", "order_checksum", "status", "diverged_step"]
    pd.testing.assert_frame_equal(found["runs"][facts], expected["runs"][facts])
    for run_id in expected.run_ids:
        weights = [results.folder.file(run_id, "final.safetensors") for results in (found, expected)]
        assert weights[0] == weights[1]


def test_a_matched_pair_has_the_same_weights_and_order_and_another_outcome(uninterrupted):
    runs = uninterrupted["runs"].set_index("network")
    assert runs.loc["plain", "weight_hash"] == runs.loc["residual", "weight_hash"]
    assert runs.loc["plain", "order_checksum"] == runs.loc["residual", "order_checksum"]
    last = uninterrupted["curves"].query("step == 12 and split == 'train' and statistics == 'batch'")
    assert last.loss.nunique() == 2


def test_several_workers_give_the_same_frames_as_one_process(uninterrupted, tmp_path):
    options = Options(jobs=2, threads=1)
    found = runner.run(made.study_spec(), name="s", root=tmp_path, options=options)
    assert_same_frames(found, uninterrupted)


def test_a_done_study_is_not_touched_again(uninterrupted):
    folder = uninterrupted.folder
    before = {path: path.stat().st_mtime_ns for path in folder.path.rglob("*.parquet")}
    assert runner.pending(folder, made.study_spec()) == ()
    runner.run(made.study_spec(), name="s", root=folder.store.root, options=ONE)
    assert before == {path: path.stat().st_mtime_ns for path in folder.path.rglob("*.parquet")}


def test_a_study_grows_by_seeds_and_keeps_what_it_has(tmp_path):
    runner.run(made.study_spec(networks=("plain",)), name="s", root=tmp_path, options=ONE)
    grown = runner.run(made.study_spec(networks=("plain",), seeds=(1,)), name="s", root=tmp_path, options=ONE)
    assert sorted(grown["runs"].seed) == [0, 1]
    assert grown.study.seeds == (0, 1)


@pytest.mark.parametrize(
    ("change", "field"),
    [({"recipe": {"steps": 13}}, "recipe.steps"), ({"measure": Measure(eval_every=6)}, "measure.eval_every")],
)
def test_a_study_on_disk_refuses_any_other_difference(tmp_path, change, field):
    folder = StudyFolder(tmp_path, "s")
    folder.write_study(made.study_spec().begun().model_dump(mode="json"))
    with pytest.raises(UserError, match=rf"{field} = .*--name NEW"):
        runner.execute_study(folder, made.study_spec(**change), ONE, silent)


@pytest.mark.parametrize("before", ["default", "tenth", 1])
def test_a_study_on_disk_keeps_its_warm_up_where_another_is_not_asked_for(tmp_path, before):
    # "default" is what studies before version 0.2 wrote for min(400, steps // 10); their padding was a number.
    fields = made.study_spec().model_dump(mode="json")
    folder = StudyFolder(tmp_path, "s")
    folder.write_study(fields | {"recipe": fields["recipe"] | {"warmup_steps": before, "padding": 3}})
    asked = made.study_spec(recipe={"warmup_steps": "default", "padding": "default"}, seeds=(1,))
    grown = runner.grow(folder, asked)
    assert (grown.recipe_at(8).warmup_steps, grown.recipe_at(8).padding) == (1, 3)
    assert grown.seeds == (0, 1)
    for named in ({"warmup_steps": "half", "padding": "default"}, {"warmup_steps": "default", "padding": 1}):
        with pytest.raises(UserError, match=r"has recipe\.(warmup_steps|padding) = .*--name NEW"):
            runner.grow(folder, made.study_spec(recipe=named))


SCRIPT = """
import sys
from degradation.launchers import runner
from degradation.runtime.environment import Options
from degradation.store import StudyFolder
from degradation.training.checkpoint import encode
from degradation.training.trainer import Training
from tests import made

root = sys.argv[1]
if __name__ == "__main__":
    print("ready", flush=True)
    options = Options(jobs=1, threads=1, checkpoint_seconds=0)
    report = lambda p: print(p.phase, p.step, flush=True)
    runner.execute_study(StudyFolder(root, "s"), made.study_spec(), options, report)
"""


def start(root: Path, *, script: str = SCRIPT) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": ".", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(root)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=Path(__file__).parent.parent,
    )  # fmt: skip


def wait_for(process: subprocess.Popen, line: str) -> None:
    for said in process.stdout:
        if said.startswith(line):
            return
    raise AssertionError(f"the process ended before it said {line!r}: {process.stderr.read()}")


# The moments: before any checkpoint, in the first evaluation, after a later one, in the second run, at its end.
MOMENTS = ("started", "evaluate 5", "evaluate 10", "finished")


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_study_killed_at_any_moment_ends_with_the_frames_of_an_uninterrupted_one(uninterrupted, tmp_path, moment):
    process = start(tmp_path)
    wait_for(process, moment)
    process.kill()
    process.wait()
    assert len(runner.pending(StudyFolder(tmp_path, "s"), made.study_spec())) >= 1
    found = runner.run(made.study_spec(), name="s", root=tmp_path, options=ONE)
    assert_same_frames(found, uninterrupted)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_checkpoint_from_which_the_study_continues(uninterrupted, tmp_path, number, status):
    said = []

    def report(progress):
        said.append(progress)
        if progress.phase == "evaluate" and progress.step == 5:
            os.kill(os.getpid(), number)

    folder, options = StudyFolder(tmp_path, "s"), Options(jobs=1, threads=1, checkpoint_seconds=1e9)
    with pytest.raises(Interrupted) as interrupted:
        runner.execute_study(folder, made.study_spec(), options, report)
    place = said.index(runner.STOPPING)  # at once, and once
    assert (said[place - 1].phase, said.count(runner.STOPPING)) == ("evaluate", 1)
    assert interrupted.value.status == status
    first = grid.runs(made.study_spec())[0].run_id
    assert folder.checkpoint(first) is not None
    assert not folder.is_done(first)
    messages = []
    runner.execute_study(folder, made.study_spec(), options, lambda progress: messages.append(progress.message))
    assert "continued from step 5" in messages
    assert_same_frames(load(folder.path), uninterrupted)


def test_what_is_left_of_a_study_keeps_the_threads_it_began_with(tmp_path, monkeypatch):
    # With fewer runs left than cores, the runs left would get more threads each, and round otherwise.
    monkeypatch.setattr("degradation.runtime.environment.cores", lambda: 8)
    monkeypatch.setattr("degradation.launchers.local.cores", lambda: 8)
    study, seen = made.study_spec(seeds=(0, 1)), []
    runner.execute_study(StudyFolder(tmp_path, "s"), made.study_spec(), Options(jobs=1, threads=2), silent)
    monkeypatch.setattr("degradation.launchers.local.launch", lambda work, *_: seen.append(work.options) or {})
    runner.execute_study(StudyFolder(tmp_path, "s"), study, Options(), silent)
    runner.execute_study(StudyFolder(tmp_path, "new"), study, Options(), silent)
    assert [(options.jobs, options.threads) for options in seen] == [(4, 2), (4, 2)]
    runner.execute_study(StudyFolder(tmp_path, "new"), study, Options(threads=1), silent)
    assert seen[-1].threads == 1


def test_two_commands_on_one_study_share_the_work(uninterrupted, tmp_path):
    first, second = start(tmp_path), start(tmp_path)
    outputs = [process.communicate(timeout=120) for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), outputs
    started = [line for out, _ in outputs for line in out.splitlines() if line.startswith("started")]
    assert len(started) == 2  # each run was trained by one of them
    assert_same_frames(load(tmp_path / "s"), uninterrupted)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_that_another_command_ends_meanwhile_is_counted_and_has_no_log(tmp_path, jobs):
    folder, out = StudyFolder(tmp_path, "s"), Console(file=io.StringIO(), width=200)
    study = made.study_spec(seeds=(0, 1))
    runs = grid.runs(study)
    other = runs[-1]

    def report(progress):
        if progress.phase == "started" and not folder.is_done(other.run_id):
            execute(other, folder, made.CPU, silent)
        watch(progress)

    with watching(out, {run.run_id: run for run in runs}) as watch:
        outcome = runner.execute_study(folder, study, Options(jobs=jobs, threads=1), report)
    assert len(outcome.finished) == 4
    [line] = [line for line in out.file.getvalue().splitlines() if other.run_id in line]
    assert "finished  step 12 of 12  trained by another process" in line
    assert "(4 of 4)" in out.file.getvalue()
    assert other.run_id not in run_logs.logged(folder)


def test_a_run_held_by_another_process_is_waited_for(tmp_path):
    folder, said = StudyFolder(tmp_path, "s"), []
    held = grid.runs(made.study_spec())[0].run_id
    holder = subprocess.Popen(
        [sys.executable, "-c", f"""
import time
from degradation.store import StudyFolder
with StudyFolder({str(tmp_path)!r}, "s").lock({held!r}) as got:
    print(got, flush=True)
    time.sleep(1000)
"""], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert holder.stdout.readline().strip() == "True"

    def report(progress):
        said.append((progress.phase, progress.run_id))
        if progress.phase == "waiting" and not progress.run_id:
            holder.kill()  # the lock of a dead process is free

    outcome = runner.execute_study(folder, made.study_spec(), ONE, report)
    assert said.count(("waiting", held)) == said.count(("waiting", "")) == 1
    assert len(outcome.finished) == 2


def test_a_damaged_checkpoint_is_kept_aside_and_the_run_begins_anew(uninterrupted, tmp_path):
    folder, said = StudyFolder(tmp_path, "s"), []
    first = grid.runs(made.study_spec())[0]
    folder.write_spec(first.run_id, first.model_dump(mode="json"))
    folder.write_checkpoint(first.run_id, b"not a checkpoint")
    runner.execute_study(folder, made.study_spec(), ONE, lambda progress: said.append(progress.message))
    assert any("starts again at step 0" in message for message in said)
    assert_same_frames(load(folder.path), uninterrupted)


def test_a_checkpoint_that_this_version_cannot_load_is_set_aside_once(uninterrupted, tmp_path):
    folder, said = StudyFolder(tmp_path, "s"), []
    first = grid.runs(made.study_spec())[0]
    checkpoint = Training(first, load_images(first.dataset, None), made.CPU, silent).checkpoint()
    older = replace(checkpoint, tensors={f"old.{name}": each for name, each in checkpoint.tensors.items()})
    folder.write_checkpoint(first.run_id, encode(older))
    outcome = runner.execute_study(folder, made.study_spec(), ONE, lambda progress: said.append(progress.message))
    assert outcome.failed == {}
    assert sum("than this version" in message for message in said) == 1
    assert_same_frames(load(folder.path), uninterrupted)


KILLS = 3
"""With 20 it takes two minutes a kind."""
SNAPSHOTS = made.study_spec(measure=Measure(eval_every=5, snapshots=(3,)))


def test_a_run_whose_folder_is_deleted_under_way_ends_done_and_whole(uninterrupted, tmp_path):
    folder = StudyFolder(tmp_path, "s")
    folder.write_study(made.study_spec().begun().model_dump(mode="json"))

    def delete(progress):
        if progress.phase == "evaluate" and progress.step == 5:
            shutil.rmtree(folder.run_path(progress.run_id))

    outcome = runner.execute_study(folder, made.study_spec(), ONE, delete)
    assert len(outcome.finished) == 2
    assert_same_frames(load(folder.path), uninterrupted)


def test_a_run_that_lost_its_snapshot_fails_in_one_line_and_is_trained_again(tmp_path):
    folder = StudyFolder(tmp_path, "s")
    folder.write_study(SNAPSHOTS.begun().model_dump(mode="json"))

    def delete(progress):
        if progress.phase == "evaluate" and progress.step == 5:
            shutil.rmtree(folder.run_path(progress.run_id))

    outcome = runner.execute_study(folder, SNAPSHOTS, ONE, delete)
    assert sorted(outcome.failed) == sorted(run.run_id for run in grid.runs(SNAPSHOTS))
    assert all("snapshot-3.safetensors was changed or deleted" in why for why in outcome.failed.values())
    assert len(runner.execute_study(folder, SNAPSHOTS, ONE, silent).finished) == 2


def test_a_half_run_whose_snapshot_was_changed_begins_anew(tmp_path):
    folder, said = StudyFolder(tmp_path, "s"), []
    run = grid.runs(SNAPSHOTS)[0]
    kept = snapshot_file(3)
    assert execute(run, folder, made.CPU, silent, lambda: folder.kept(run.run_id, kept) is not None) == "stopped"
    place = folder.run_path(run.run_id) / kept
    data = place.read_bytes()
    place.write_bytes(data[:-4] + bytes(4))
    assert execute(run, folder, made.CPU, lambda progress: said.append(progress.message)) == "finished"
    assert any("snapshot-3.safetensors was changed" in line and "starts again at step 0" in line for line in said)
    assert place.read_bytes() == data


def test_the_checkpoint_of_another_run_is_not_taken(uninterrupted, tmp_path):
    folder, options = StudyFolder(tmp_path, "s"), Options(jobs=1, threads=1)
    first, other = grid.runs(made.study_spec())
    stranger = Training(other, load_images(other.dataset, None), made.CPU, silent)
    folder.write_spec(first.run_id, first.model_dump(mode="json"))
    folder.write_checkpoint(first.run_id, encode(stranger.checkpoint()))
    runner.execute_study(folder, made.study_spec(), options, silent)
    assert_same_frames(load(folder.path), uninterrupted)


def test_a_damaged_file_of_a_done_run_is_reported_and_nothing_is_overwritten(tmp_path):
    results = runner.run(made.study_spec(networks=("plain",)), name="s", root=tmp_path, options=ONE)
    victim = results.folder.run_path(results.run_ids[0]) / "curves.parquet"
    victim.write_bytes(victim.read_bytes()[:-1] + b"x")
    outcome = runner.execute_study(results.folder, made.study_spec(), ONE, silent)
    assert list(outcome.failed) == [results.run_ids[0]]
    assert "clean s --run" in outcome.failed[results.run_ids[0]]
    assert len(outcome.finished) == 1
    assert victim.read_bytes().endswith(b"x")
    with pytest.raises(UserError, match=r"curves\.parquet"):
        load(results.folder.path)["curves"]


@pytest.mark.parametrize(
    ("failure", "line"),
    [
        ("the memory of the device is full", "RuntimeError: the memory of the device is full"),
        (
            "DataLoader worker (pid 7) is killed by signal: Killed. ",
            "a process that decodes images died, as where",
        ),
    ],
)
def test_a_run_that_fails_is_named_and_the_others_finish(tmp_path, monkeypatch, failure, line):
    from degradation.training import trainer

    real = trainer.Training._step

    def fail(training):
        if training.run.network == "plain" and training.position == 3:
            raise RuntimeError(failure)
        real(training)

    monkeypatch.setattr(trainer.Training, "_step", fail)
    outcome = runner.execute_study(StudyFolder(tmp_path, "s"), made.study_spec(), ONE, silent)
    assert len(outcome.finished) == 1
    [(run_id, why)] = outcome.failed.items()
    assert run_id.startswith("plain-8")
    assert why.startswith(line)
    [said] = run_logs.read(StudyFolder(tmp_path, "s"), run_id).values()
    assert "Traceback (most recent call last)" in said


def test_a_worker_that_dies_fails_its_run_alone(tmp_path):
    killed = []

    def report(progress):
        if progress.phase == "evaluate" and not killed:
            import multiprocessing

            worker = multiprocessing.active_children()[0]
            killed.append(worker.pid)
            os.kill(worker.pid, signal.SIGKILL)
            time.sleep(0.1)

    study = made.study_spec(seeds=(0, 1), recipe={"steps": 40})
    outcome = runner.execute_study(StudyFolder(tmp_path, "s"), study, Options(jobs=2, threads=1), report)
    assert len(outcome.failed) == 1
    assert "worker process died" in next(iter(outcome.failed.values()))
    assert len(outcome.finished) == 3


def test_a_diverged_run_is_done_and_named_and_the_study_goes_on(tmp_path):
    study = made.study_spec(recipe={"learning_rate": 1e30, "steps": 20})
    outcome = runner.execute_study(StudyFolder(tmp_path, "s"), study, ONE, silent)
    assert len(outcome.diverged) == 2
    assert not outcome.failed
    runs = load(tmp_path / "s")["runs"]
    assert (runs.status == "diverged").all()
    assert (runs.diverged_step >= 2).all()


@pytest.mark.parametrize("jobs", [1, 2])
def test_kills_at_random_moments_leave_nothing_behind(uninterrupted, tmp_path, jobs):
    folder, draw = StudyFolder(tmp_path, "s"), random.Random(jobs)
    script = SCRIPT.replace("jobs=1", f"jobs={jobs}")
    for _ in range(KILLS):
        process = start(tmp_path, script=script)
        wait_for(process, "ready")
        time.sleep(draw.uniform(0.0, 2.5))
        process.kill()
        process.communicate(timeout=60)  # until its workers have ended as well
    runner.execute_study(folder, made.study_spec(), Options(jobs=1, threads=1), silent)
    runner.execute_study(folder, made.study_spec(), Options(jobs=1, threads=1), silent)
    assert_same_frames(load(folder.path), uninterrupted)
    assert not [path for run_id in folder.run_ids() for path in folder.run_path(run_id).glob(".*")]
    for item in leftovers(folder):  # what `clean` shows
        item.remove()
    assert [path for path in folder.path.rglob(".*") if path != folder.path / ".lock"] == []
    assert_same_frames(load(folder.path), uninterrupted)
