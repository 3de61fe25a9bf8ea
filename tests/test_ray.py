"""A study on a Ray cluster of three nodes here: nodes, workers and the command die, the frames stay equal."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("ray")

from degradation.errors import UserError
from degradation.launchers import attempts as work
from degradation.launchers import ray as launcher
from degradation.launchers import ray_cluster as cluster_room
from degradation.launchers import ray_scheduler, ray_tasks, runner
from degradation.runtime.environment import Options
from degradation.runtime.progress import silent
from degradation.runtime.signals import ImmediateStop
from degradation.spec import grid
from degradation.store import StudyFolder
from degradation.study import run_logs
from degradation.study.results import load
from tests import made, made_cluster
from tests.made_cluster import pretended, unhurried
from tests.test_runner import assert_same_frames

pytestmark = pytest.mark.slow

STUDY = made.study_spec(seeds=(0, 1), recipe={"steps": 120})
RUNS = grid.runs(STUDY)
CHECKOUT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def cluster():
    """Joined once, so that workers that have imported torch serve several tests."""
    with (
        pytest.MonkeyPatch.context() as monkeypatch,
        made_cluster.three_nodes(monkeypatch) as cluster,
        launcher.ready(Options(launcher="ray", address=cluster.address)),
    ):
        yield cluster


@pytest.fixture
def on(cluster, monkeypatch):
    """Options that train on the cluster's cores, with a checkpoint at every step and short pauses."""
    monkeypatch.setattr(work, "PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(work, "HELD_SECONDS", 0.1)
    return {"launcher": "ray", "address": cluster.address, "checkpoint_seconds": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    options = Options(jobs=1, threads=1)
    return runner.run(STUDY, name="s", root=tmp_path_factory.mktemp("whole"), options=options)


class Once:
    """A report that keeps what was said, and does something once, when enough runs are under way."""

    def __init__(self, act, after: int = 1) -> None:
        self.act, self.after = act, after
        self.said = []
        self.under_way = set()

    def __call__(self, progress) -> None:
        self.said.append(progress)
        if progress.phase == "evaluate":
            self.under_way.add(progress.run_id)
        if len(self.under_way) >= self.after and self.act:
            act, self.act = self.act, None
            act(progress.run_id)

    def messages(self, phase: str) -> list[str]:
        return [progress.message for progress in self.said if progress.phase == phase]


def test_a_node_that_dies_costs_no_run_and_no_bit(cluster, on, uninterrupted, tmp_path, capfd):
    folder = StudyFolder(tmp_path, "s")
    watch = Once(lambda run_id: made_cluster.lose_node(cluster, worker_of(folder, run_id)))
    failed = launcher.launch(pretended(tmp_path, unhurried, STUDY, **on), RUNS, watch, lambda: False)
    made_cluster.add_node(cluster)
    assert (len(load(folder.path).run_ids), failed) == (len(RUNS), {})
    assert "its node died; tried again, 1 of 3" in watch.messages("waiting")
    assert any("continued from step" in message for message in watch.messages("started"))
    assert {progress.node for progress in watch.said if progress.phase == "evaluate"} == {os.uname().nodename}
    assert_same_frames(load(tmp_path / "s"), uninterrupted)
    assert "Raylet" not in capfd.readouterr().out


def test_a_worker_that_is_killed_continues_from_its_checkpoint(on, uninterrupted, tmp_path):
    folder = StudyFolder(tmp_path, "s")

    def kill(run_id):
        os.kill(worker_of(folder, run_id), signal.SIGKILL)

    watch = Once(kill)
    assert launcher.launch(pretended(tmp_path, unhurried, STUDY, **on), RUNS, watch, lambda: False) == {}
    assert "its worker process died; tried again, 1 of 3" in watch.messages("waiting")
    [killed] = [run_id for run_id in run_logs.logged(folder) if len(run_logs.read(folder, run_id)) == 3]
    before, death, after = run_logs.read(folder, killed).values()
    assert "evaluate" in before
    assert death == "its worker process died\n"
    assert "continued from step" in after
    assert_same_frames(load(tmp_path / "s"), uninterrupted)


def test_a_node_on_which_every_run_fails_costs_none_where_another_can_take_them(cluster, on, tmp_path):
    sick = made_cluster.add_node(cluster, SICK="1")
    watch = Once(None)
    study = made.study_spec(seeds=tuple(range(6)))
    asked = pretended(tmp_path, made_cluster.finds_no_data_on_a_sick_node, study, **on)
    failed = launcher.launch(asked, grid.runs(study), watch, lambda: False)
    cluster.remove_node(sick)
    assert failed == {}
    assert made_cluster.notes(tmp_path)
    assert all(len(tried) == 1 for tried in made_cluster.notes(tmp_path).values())
    assert "no images here; tried again, 1 of 3" in watch.messages("waiting")


@pytest.mark.cifar10
def test_a_node_that_cannot_take_part_is_named_before_any_training(cluster, on, tmp_path):
    sick = made_cluster.add_node(cluster, DEGRADATION_DATA=str(tmp_path))
    study = made.study_spec(dataset={"name": "cifar10"})
    with pytest.raises(UserError, match=rf"^node {os.uname().nodename}: CIFAR-10"):
        runner.execute_study(StudyFolder(tmp_path, "s"), study, Options(**on), silent)
    cluster.remove_node(sick)
    assert not StudyFolder(tmp_path, "s").run_ids()


def test_the_last_words_of_a_worker_that_dies_are_in_the_log_of_its_run(on, tmp_path):
    asked = pretended(tmp_path, made_cluster.crashes, **on | {"checkpoint_seconds": 1e9})
    assert launcher.launch(asked, RUNS[:1], silent, lambda: False) == {}
    (_, died), _ = run_logs.attempts(run_logs.read(asked.folder, RUNS[0].run_id))
    assert "    a library says why" in died
    assert "Fatal Python error: Segmentation fault" in died
    assert died.endswith("its worker process died\n")


def worker_of(folder: StudyFolder, run_id: str) -> int:
    """The process that trains a run, as its log names it."""
    return int(list(run_logs.read(folder, run_id))[-1].rsplit("-", 1)[1])


def test_a_run_that_always_fails_is_reported_after_its_retries_and_the_others_finish(on, tmp_path):
    failed = launcher.launch(pretended(tmp_path, made_cluster.fails_if_plain, **on), RUNS, silent, lambda: False)
    assert set(failed) == {run.run_id for run in RUNS if run.network == "plain"}
    for run_id, why in failed.items():
        assert why.startswith("RuntimeError: attempt 4 has failed (its traceback: degradation logs s plain-8")
        assert len(made_cluster.notes(tmp_path)[run_id]) == 1 + ray_scheduler.RETRIES
        said = list(run_logs.read(StudyFolder(tmp_path, "s"), run_id).values())
        assert len(said) == 4
        assert all("Traceback (most recent call last)" in text for text in said)


def test_an_error_of_use_that_repeats_is_not_tried_again(on, tmp_path):
    failed = launcher.launch(pretended(tmp_path, made_cluster.finds_no_data, **on), RUNS[:1], silent, lambda: False)
    assert failed == {RUNS[0].run_id: "no images here"}
    assert len(made_cluster.notes(tmp_path)[RUNS[0].run_id]) == 2


def test_full_memory_of_a_gpu_halves_the_packing_until_the_runs_fit(on, tmp_path):
    watch = Once(None)
    options = on | {"device": "auto", "gpus_per_run": 0.25}
    failed = launcher.launch(pretended(tmp_path, made_cluster.full_memory, **options), RUNS[:2], watch, lambda: False)
    assert failed == {}
    shares = made_cluster.notes(tmp_path).values()
    assert {share for each in shares for share in each} <= {"0.25", "0.5", "1.0"}
    assert all(each[-1] == "1.0" and len(each) <= 3 for each in shares)
    said = " ".join(watch.messages("waiting"))
    assert "each run takes 0.5 of a GPU" in said
    assert "each run takes a whole GPU" in said


def test_a_run_that_a_whole_gpu_cannot_hold_fails_at_once(on, tmp_path):
    options = on | {"device": "auto", "gpus_per_run": 1}
    work = pretended(tmp_path, made_cluster.never_enough_memory, **options)
    failed = launcher.launch(work, RUNS[:1], silent, lambda: False)
    assert "CUDA out of memory" in failed[RUNS[0].run_id]
    assert made_cluster.notes(tmp_path)[RUNS[0].run_id] == ["asked"]


def test_a_run_that_is_held_is_looked_at_again_and_has_not_failed(on, tmp_path):
    watch = Once(None)
    failed = launcher.launch(pretended(tmp_path, made_cluster.held_twice, **on), RUNS[:1], watch, lambda: False)
    assert failed == {}
    held, waits = watch.messages("waiting")
    assert held == "another process is training it"
    assert waits == f"only runs of other processes are left; waiting for them: {RUNS[0].run_id}"
    assert watch.messages("finished") == ["trained by another process"]
    assert len(made_cluster.notes(tmp_path)[RUNS[0].run_id]) == 3
    assert run_logs.logged(StudyFolder(tmp_path, "s")) == ()


def test_what_a_worker_prints_stands_in_the_log_of_its_run(on, tmp_path):
    launcher.launch(pretended(tmp_path, made_cluster.says_hello, **on), RUNS[:1], silent, lambda: False)
    [said] = run_logs.read(StudyFolder(tmp_path, "s"), RUNS[0].run_id).values()
    for part in ("hello from Python", "something is odd", "hello from a library", "launcher ray", "finished"):
        assert part in said


# The command itself


SILENT = (
    "from degradation.launchers import ray_cluster; ray_cluster.SILENT_SECONDS = {}; from degradation.cli import main"
)
LOST = "from tests import made_cluster; made_cluster.lose_head({!r})"


def start(root: Path, *arguments: str, silent_seconds: float | None = None, lost: str = "") -> subprocess.Popen:
    """`degradation run` of a study like STUDY, in a process of its own."""
    toml = root / "s.toml"
    toml.write_text(
        'question = "?"\ndepths = [8]\nseeds = [0, 1]\nmeasure.eval_every = 5\n'
        "recipe = { steps = 120, batch = 16, warmup_steps = 2, padding = 1 }\n"
        'dataset = { name = "synthetic", examples = 48, test_examples = 20, size = 8 }\n'
    )
    made = [SILENT.format(silent_seconds), *([LOST.format(lost)] if lost else []), "main()"]
    module = ["-m", "degradation"] if silent_seconds is None else ["-c", "; ".join(made)]
    command = [sys.executable, *module, "run", str(toml), "--root", str(root), "--launcher", "ray"]
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [*command, "--device", "cpu", "--threads", "1", "--no-figures", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def wait_for(process: subprocess.Popen, word: str) -> str:
    for said in process.stdout:
        if word in said.split():
            return said
    raise AssertionError(f"the command ended before it said {word!r}: {process.stderr.read()}")


@pytest.mark.parametrize(("number", "status", "joins"), [(signal.SIGINT, 130, False), (signal.SIGTERM, 143, True)])
def test_a_signal_stops_the_workers_with_checkpoints(cluster, on, uninterrupted, tmp_path, number, status, joins):
    process = start(tmp_path, *(["--address", cluster.address] if joins else []))
    wait_for(process, "evaluate")
    assert_interrupted(process, number, status)
    folder = StudyFolder(tmp_path, "s")
    assert any(folder.checkpoint(run_id) for run_id in folder.run_ids())
    watch = Once(None)
    runner.execute_study(folder, STUDY, Options(**on), watch)
    assert any("continued from step" in message for message in watch.messages("started"))
    assert_same_frames(load(folder.path), uninterrupted)


@pytest.mark.parametrize(("number", "status", "joins"), [(signal.SIGINT, 130, False), (signal.SIGTERM, 143, True)])
def test_a_signal_while_steps_are_timed_ends_the_command_in_one_line(cluster, tmp_path, number, status, joins):
    process = start(tmp_path, *(["--address", cluster.address] if joins else []))
    wait_for(process, "timing")
    assert_interrupted(process, number, status)


@pytest.mark.parametrize("moment", ["while it starts", "once it is there"])
def test_ray_that_was_started_here_leaves_no_process_behind_a_signal(tmp_path, moment):
    process = start(tmp_path)
    wait_for(process, "pairs" if moment == "while it starts" else "timing")
    until = time.monotonic() + 60
    while len(started := descendants(process.pid)) < 3 and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    while process.poll() is None:
        started |= descendants(process.pid)
        time.sleep(0.05)
    assert_interrupted(process, None, 143)
    assert_all_end(started, 10)


def test_ray_that_was_started_here_ends_soon_after_a_command_that_is_killed(tmp_path):
    process = start(tmp_path)
    wait_for(process, "timing")
    started = descendants(process.pid)
    agents = [pid for pid in started if b"Agent" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    process.kill()
    process.communicate()
    assert len(agents) == 2
    assert_all_end(started, 10)


def test_what_ray_says_of_its_own_end_is_not_shown(monkeypatch, capfd):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(launcher.ray, "shutdown", lambda: os.write(2, b"Failed to push error to driver"))
    monkeypatch.setattr(cluster_room, "_start_whole", lambda watch: None)
    with cluster_room.connected(Options(launcher="ray")):
        print("shown")
    assert capfd.readouterr() == ("shown\n", "")


def assert_interrupted(process: subprocess.Popen, number: int | None, status: int) -> None:
    if number is not None:
        process.send_signal(number)
    _, said = process.communicate(timeout=100)
    assert process.returncode == status, said
    assert said.startswith("degradation: interrupted; the same command continues it: degradation run ")
    assert said.count("\n") == 1


def assert_all_end(processes: set[int], seconds: float) -> None:
    until = time.monotonic() + seconds
    while any(map(alive, processes)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not [pid for pid in processes if alive(pid)]


def descendants(pid: int) -> set[int]:
    """The processes that a process has started, and those that these have."""
    below = {int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in read(task).split()}
    return below.union(*map(descendants, below))


def read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def test_when_the_command_is_killed_its_workers_end_and_the_next_one_continues(cluster, on, uninterrupted, tmp_path):
    process, folder = start(tmp_path, "--address", cluster.address), StudyFolder(tmp_path, "s")
    run_id = wait_for(process, "evaluate").split()[1]
    worker = worker_of(folder, run_id)
    process.kill()
    process.communicate()
    runner.execute_study(folder, STUDY, Options(**on), silent)
    assert_same_frames(load(folder.path), uninterrupted)
    assert not alive(worker)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


# What the command itself depends on


def test_the_death_of_ray_on_the_commands_machine_ends_it_in_one_line_and_fails_no_run(tmp_path):
    process = start(tmp_path)
    run_id = wait_for(process, "finished").split()[1]
    [raylet] = [pid for pid in descendants(process.pid) if "/raylet/raylet" in read(Path(f"/proc/{pid}/cmdline"))]
    os.kill(raylet, signal.SIGKILL)
    said, why = process.communicate(timeout=100)
    assert process.returncode == 2, why
    assert why.startswith("degradation: Ray has died on this machine")
    assert why.count("\n") == 1
    assert " failed " not in said
    assert said.count(run_id) == 0
    assert StudyFolder(tmp_path, "s").is_done(run_id)


def test_the_death_of_the_head_ends_the_command_in_one_line_with_checkpoints(cluster, tmp_path, monkeypatch):
    with made_cluster.three_nodes(monkeypatch) as doomed:
        address = doomed.address
        process = start(tmp_path, "--address", address, silent_seconds=2)
        wait_for(process, "evaluate")
        doomed.head_node.all_processes["gcs_server"][0].process.kill()
        said, why = process.communicate(timeout=50)
    assert process.returncode == 2, why
    assert said.count(f"the head of the Ray cluster, {address}, does not answer: waiting for it") == 1
    assert why.startswith(f"degradation: the head of the Ray cluster, {address}, has not answered for 2 seconds")
    assert why.count("\n") == 1
    folder = StudyFolder(tmp_path, "s")
    assert any(folder.checkpoint(run_id) for run_id in folder.run_ids())


@pytest.mark.parametrize("phase", ["time_costs", "check", "launch"])
def test_the_death_of_the_head_in_any_phase_ends_the_command_in_one_line(tmp_path, phase):
    process = start(tmp_path, silent_seconds=2, lost=phase)
    wait_for(process, "timing")
    started, below = time.monotonic(), descendants(process.pid)
    _, why = process.communicate(timeout=100)
    assert process.returncode == 2, why
    assert re.match(r"degradation: the head of the Ray cluster, \S+, has not answered for 2 seconds", why)
    assert why.count("\n") == 1
    assert time.monotonic() - started < 50  # Ray ends what waits for its head after 60
    assert_all_end(below, 2)


def test_without_a_head_no_run_is_waited_for_that_has_not_begun(on, tmp_path, monkeypatch):
    watch = Once(lambda run_id: monkeypatch.setattr(cluster_room.Head, "_connects", lambda head: False))
    monkeypatch.setattr(cluster_room, "SILENT_SECONDS", 1)
    asked, begun = pretended(tmp_path, made_cluster.hears_nothing_if_residual, STUDY, **on), time.monotonic()
    with pytest.raises(cluster_room.ClusterError, match="the same command continues"):
        launcher.launch(asked, RUNS, watch, lambda: False)
    assert time.monotonic() - begun < 10
    assert all(asked.folder.checkpoint(run_id) for run_id in watch.under_way)


def test_ray_is_asked_in_a_thread_while_its_head_may_be_gone(cluster, monkeypatch):
    head = cluster_room.Head()
    assert head.answer(lambda: 1) == 1
    with pytest.raises(ZeroDivisionError):
        head.answer(lambda: 1 // 0)
    monkeypatch.setattr(cluster_room, "SILENT_SECONDS", 0)
    monkeypatch.setattr(head, "_connects", lambda: False)
    with pytest.raises(cluster_room.ClusterError, match="the same command continues"):
        head.answer(lambda: time.sleep(5))


@pytest.mark.parametrize(("answers", "ended"), [(True, True), (False, False)])
def test_a_signal_during_a_call_of_ray_lets_it_end_while_the_head_answers(cluster, monkeypatch, answers, ended):
    # a process in a call of Ray that is shut down ends with status 1 and no line
    head, calls = cluster_room.Head(), []

    def interrupt():
        raise ImmediateStop

    def call():
        time.sleep(1)
        calls.append("ended")

    monkeypatch.setattr(head, "ask", interrupt)
    monkeypatch.setattr(head, "_connects", lambda: answers)
    with pytest.raises(ImmediateStop):
        head.answer(call)
    assert bool(calls) == ended


def test_a_head_is_asked_by_a_bare_connection(cluster, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(cluster_room, "gcs_address", lambda: f"127.0.0.1:{server.getsockname()[1]}")
        head = cluster_room.Head()
        assert head.ask()
    assert not head.ask()
    monkeypatch.setattr(cluster_room, "SILENT_SECONDS", 0)
    with pytest.raises(cluster_room.ClusterError, match="the same command continues"):
        head.ask()


def test_a_share_that_no_node_has_is_named_before_it_is_waited_for(cluster, tmp_path):
    process = start(tmp_path, "--address", cluster.address, "--threads", "3")
    assert "no node has 3 cores yet, and one that has is waited for" in wait_for(process, "waited")
    assert_interrupted(process, signal.SIGINT, 130)


# What cannot be done


def test_a_node_with_another_version_ends_the_study_with_one_line(on, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_tasks, "__version__", "0.0.9")  # of the command: the nodes have their own
    with pytest.raises(UserError, match=r"node .* has degradation .*, the command 0\.0\.9"):
        runner.execute_study(StudyFolder(tmp_path, "s"), STUDY, Options(**on), silent)


def test_a_node_that_does_not_see_the_root_ends_the_study_with_one_line(on, tmp_path):
    pretended(tmp_path, made_cluster.says_hello)
    (tmp_path / "s" / "study.json").unlink()
    lost = work.LaunchContext(root=str(tmp_path), study="s", options=Options(**on))
    with pytest.raises(UserError, match=r"no study s in .*same folder on every node \(NFS\)"):
        launcher.launch(lost, RUNS, silent, lambda: False)


@pytest.mark.parametrize(
    ("asked", "takes"),
    [(("--device", "auto", "--gpus-per-run", "0.25"), "0.25 of a GPU"), (("--threads", "99"), "99 ")],
)
def test_more_than_this_machine_has_is_refused_before_anything_is_timed(tmp_path, asked, takes):
    said, why = start(tmp_path, *asked).communicate(timeout=60)
    assert why.startswith(f"degradation: each run takes {takes}")
    assert why.count("\n") == 1
    assert "timing" not in said


def test_an_address_where_no_cluster_answers_is_one_line_within_seconds(tmp_path):
    started = time.monotonic()
    process = start(tmp_path, "--address", "127.0.0.1:1")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said.startswith("degradation: --address 127.0.0.1:1: no Ray cluster answers there (")
    assert said.count("\n") == 1
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(("said", "why"), [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "something else"), (b"", "timed out")])
def test_a_port_where_something_else_listens_is_no_cluster(monkeypatch, said, why):
    monkeypatch.setattr(cluster_room, "REACH_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            connection.sendall(said)
            time.sleep(1)
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(UserError, match=f"no Ray cluster answers there .*{why}"):
            cluster_room._reach(f"127.0.0.1:{server.getsockname()[1]}", "here")


def test_the_port_of_a_cluster_answers(cluster):
    cluster_room._reach(cluster.address, "here")
