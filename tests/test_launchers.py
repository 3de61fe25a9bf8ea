"""What launchers share: shares of a cluster, the books of failures, the options that choose one; no cluster."""

import subprocess
import sys
from multiprocessing import Pipe
from pathlib import Path

import pytest

from degradation.cli.options import MachineOptions
from degradation.errors import UserError
from degradation.launchers.attempts import Attempt, LaunchContext, RetryTracker
from degradation.launchers.local import WorkerPool
from degradation.launchers.ray_resources import Share, share_of
from degradation.runtime.environment import Options
from degradation.runtime.progress import Progress
from degradation.spec import RunSpec, grid
from degradation.store import StudyFolder
from tests import made
from tests.made_frames import make_study

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parent.parent
RUN = grid.runs(made.study_spec())[0]
GPU_NODE = {"CPU": 16.0, "GPU": 8.0}


# Options


def test_the_options_of_a_cluster_reach_the_runner():
    found = MachineOptions(launcher="ray", address="10.0.0.1:6379", gpus_per_run="0.25").checked()
    assert (found.launcher, found.address, found.gpus_per_run) == ("ray", "10.0.0.1:6379", 0.25)
    assert MachineOptions().checked().launcher == "local"


@pytest.mark.parametrize(
    ("machine", "message"),
    [
        (MachineOptions(launcher="rya"), "--launcher: expected local, ray, not 'rya'; did you mean ray?"),
        (MachineOptions(address="auto"), "--address belongs to --launcher ray"),
        (MachineOptions(gpus_per_run="0.5"), "--gpus-per-run belongs to --launcher ray"),
        (MachineOptions(launcher="ray", address="ray://h:1"), "--address: expected auto or HOST:PORT, not 'ray://h:1'"),
        (MachineOptions(launcher="ray", address="h"), "--address: expected auto or HOST:PORT, not 'h'"),
        (MachineOptions(launcher="ray", gpus_per_run="0"), "--gpus-per-run: expected a share of a GPU above 0"),
        (MachineOptions(launcher="ray", gpus_per_run="1.5"), "--gpus-per-run: expected a share of a GPU above 0"),
        (MachineOptions(launcher="ray", gpus_per_run="half"), "--gpus-per-run: expected a share of a GPU above 0"),
    ],
)
def test_an_impossible_option_of_a_cluster_is_named(machine, message):
    with pytest.raises(UserError) as refused:
        machine.checked()
    assert str(refused.value).startswith(message)


# What is imported


def python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECKOUT)


def test_the_default_launcher_imports_no_ray(tmp_path):
    done = python(f"""
import sys
from degradation.launchers import runner
from degradation.cli import app, train
from tests import made
runner.run(made.study_spec(networks=("plain",), recipe={{"steps": 2}}), name="s", root={str(tmp_path)!r})
assert "torch" in sys.modules
assert not [name for name in sys.modules if name.split(".")[0] == "ray"]
""")
    assert done.returncode == 0, done.stderr


def test_without_ray_installed_one_line_says_what_to_install(tmp_path):
    done = python(f"""
import sys
sys.modules["ray"] = None  # what an import finds where it is not installed
from degradation.cli import main
main(["run", "quickstart", "--launcher", "ray", "--root", {str(tmp_path)!r}])
""")
    assert done.returncode == 2
    assert done.stderr == "degradation: --launcher ray needs Ray: pip install 'degradation[cluster]'\n"


# Shares


@pytest.mark.parametrize(("runs", "share"), [(4, 1.0), (8, 1.0), (9, 0.5), (16, 0.5), (17, 0.25), (900, 0.25)])
def test_few_runs_take_larger_shares_of_the_gpus_so_that_none_is_idle(runs, share):
    assert share_of(Options(), [GPU_NODE], runs) == Share(gpus=share)


def test_a_share_that_is_asked_for_is_taken_and_without_a_gpu_a_run_takes_its_cores():
    assert share_of(Options(gpus_per_run=0.1), [GPU_NODE], 1) == Share(gpus=0.1)
    assert share_of(Options(gpus_per_run=0.1), [{"CPU": 4.0}], 1) == Share(gpus=0.1)  # a GPU node may yet join
    assert share_of(Options(device="cpu", threads=2), [GPU_NODE], 1) == Share(cores=2)
    assert share_of(Options(), [{"CPU": 4.0}], 1) == Share(cores=1)


def test_what_cannot_be_shared_out_is_refused():
    with pytest.raises(UserError, match="--device mps"):
        share_of(Options(device="mps"), [GPU_NODE], 1)
    with pytest.raises(UserError, match="expected one of them"):
        share_of(Options(device="cpu", gpus_per_run=0.5), [GPU_NODE], 1)


def test_runs_at_a_time_are_counted_node_by_node_and_gpu_by_gpu():
    assert Share(cores=3).within([{"CPU": 4.0}, {"CPU": 8.0}, {}]) == 3
    assert Share(gpus=0.25).within([GPU_NODE, {"CPU": 64.0}]) == 32
    assert Share(gpus=0.3).within([GPU_NODE]) == 24
    assert Share(gpus=0.1).within([{"GPU": 1.0}]) == 10


def test_doubling_a_share_ends_at_a_whole_gpu():
    shares = [Share(gpus=0.3)]
    for _ in range(3):
        shares.append(shares[-1].doubled())
    assert [share.gpus for share in shares] == [0.3, 0.6, 1.0, 1.0]


# Workers


class Ending:
    """A worker that Ctrl-C reached before its run began: its connection is closed."""

    def __init__(self) -> None:
        self.connection, theirs = Pipe()
        theirs.close()
        self.run, self.asked = RUN, False

    def ask_to_stop(self) -> None:
        self.asked = True

    def receive(self) -> Attempt:
        return Attempt(ending="stopped") if self.asked else failure("its worker process died", "died")


def test_a_worker_that_ends_by_the_signal_that_stops_the_study_was_stopped_and_did_not_die(tmp_path):
    said: list[Progress] = []
    work = LaunchContext(root=str(tmp_path), study="s", options=Options())
    crew = WorkerPool(work, said.append, lambda: True)
    assert list(crew._messages([Ending()])) == [RUN]
    assert (said, crew.retries.failed) == ([], {})


def test_a_second_ctrl_c_at_the_end_of_a_worker_is_no_traceback(tmp_path):
    ended = python(f"""
import signal
from degradation.runtime.environment import Options
from degradation.launchers.local import work_loop
from degradation.launchers.attempts import LaunchContext

class Closed:
    def recv(self):
        raise EOFError

work_loop(Closed(), LaunchContext(root={str(tmp_path)!r}, study="s", options=Options()))
signal.raise_signal(signal.SIGINT)
print("ended")
""")
    assert (ended.stdout, ended.stderr) == ("ended\n", "")


# Books


def tracker(tmp_path: Path, retries: int) -> tuple[RetryTracker, list[Progress]]:
    said: list[Progress] = []
    return RetryTracker(StudyFolder(tmp_path, "s"), said.append, retries), said


def failure(why: str = "odd", cause="error") -> Attempt:
    return Attempt(why=why, cause=cause)


def test_a_run_fails_after_its_retries_with_longer_pauses_between(tmp_path):
    kept, said = tracker(tmp_path, 2)
    assert [kept.ended(RUN, failure(f"odd {number}")) for number in range(3)] == [1.0, 2.0, None]
    assert kept.failed == {RUN.run_id: "odd 2"}
    assert [progress.phase for progress in said] == ["waiting", "waiting", "failed"]


def test_a_run_that_gets_further_has_all_its_retries_again(tmp_path):
    kept, _ = tracker(tmp_path, 1)
    for step in (0, 100, 200):
        kept.on_progress(Progress(run_id=RUN.run_id, phase="started", step=step))
        assert kept.ended(RUN, failure()) is not None
    kept.on_progress(Progress(run_id=RUN.run_id, phase="started", step=200))
    assert kept.ended(RUN, failure()) is None


def test_what_repeats_for_certain_is_not_tried_again(tmp_path):
    kept, _ = tracker(tmp_path, 3)
    assert kept.ended(RUN, failure("no data", "use")) is not None
    assert kept.ended(RUN, failure("no data", "use")) is None
    other = grid.runs(made.study_spec())[1]
    assert kept.ended(other, failure("the memory is full", "memory")) is None


@pytest.mark.parametrize("reported", [True, False])
def test_a_worker_that_died_behind_its_run_has_not_failed_and_the_run_ended_once(tmp_path, reported):
    folder = make_study(tmp_path, depths=(8,), seeds=(0,))
    run = RunSpec.model_validate(folder.spec(folder.run_ids()[0]))
    said: list[Progress] = []
    kept = RetryTracker(folder, said.append, 3)
    if reported:
        kept.on_progress(Progress(run_id=run.run_id, phase="finished"))
    assert kept.ended(run, failure("its node died", "died")) is None
    assert ([progress.phase for progress in said], kept.failed) == (["finished"], {})
    assert kept.ended(RUN, failure("its node died", "died")) is not None


def test_it_is_said_once_that_nothing_is_left_but_what_others_hold(tmp_path):
    kept, said = tracker(tmp_path, 0)
    other = grid.runs(made.study_spec())[1]
    kept.ended(RUN, Attempt(ending="held"))
    kept.remaining([RUN.run_id, other.run_id])
    assert [progress.run_id for progress in said] == [RUN.run_id]
    for _ in range(3):
        kept.remaining([RUN.run_id])
    assert [progress.run_id for progress in said] == [RUN.run_id, ""]
    assert said[-1].message == f"only runs of other processes are left; waiting for them: {RUN.run_id}"


def test_a_run_that_was_held_and_is_trained_here_is_not_waited_for(tmp_path):
    kept, said = tracker(tmp_path, 0)
    kept.ended(RUN, Attempt(ending="held"))
    kept.on_progress(Progress(run_id=RUN.run_id, phase="started"))
    kept.remaining([RUN.run_id])
    assert [progress.phase for progress in said] == ["waiting", "started"]


def test_held_and_stopped_runs_are_tried_again_without_a_failure(tmp_path):
    kept, said = tracker(tmp_path, 0)
    assert [kept.ended(RUN, Attempt(ending="held")) for _ in range(9)] == [2.0] * 9
    assert kept.ended(RUN, Attempt(ending="stopped")) == 0.0
    assert [kept.ended(RUN, Attempt(ending=ending)) for ending in ("finished", "diverged")] == [None, None]
    assert (len(said), kept.failed) == (1, {})
