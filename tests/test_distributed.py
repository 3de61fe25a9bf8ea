"""One network on several processes, started by torchrun itself: the same frames as one process with as many parts."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from degradation.launchers import runner
from degradation.runtime.environment import Options
from degradation.spec import Measure
from degradation.store import StudyFolder
from degradation.study.pairs import matches
from degradation.study.results import Results, load
from tests import made
from tests.test_runner import assert_same_frames

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parent.parent
ONE = Options(jobs=1, threads=1)
SECONDS = 300  # a machine may be busy


def torchrun(*arguments: str, processes: int = 2) -> subprocess.Popen:
    """``torchrun --nproc-per-node 2 ARGUMENTS``, with its children's words on one pipe."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.Popen(
        [*command, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=CHECKOUT,
    )  # fmt: skip


def ended(process: subprocess.Popen) -> tuple[int, str]:
    said, _ = process.communicate(timeout=SECONDS)
    return process.returncode, said


def study(steps: int = 12, **fields: object):
    return made.study_spec(recipe={"steps": steps, "ghost_batches": 2}, **fields)


def started(root: Path, spec) -> subprocess.Popen:
    """The command that trains the study in ``root/s`` with two processes."""
    folder = StudyFolder(root, "s")
    folder.write_study(spec.begun().model_dump(mode="json"))
    return torchrun("-m", "degradation", "run", "s", "--root", str(root), "--threads", "1", "--no-figures")


def said_until(process: subprocess.Popen, words: str) -> None:
    for line in process.stdout:
        if words in line:
            return
    raise AssertionError(f"torchrun ended before a process said {words!r}")


def in_one_process(root: Path, spec) -> Results:
    return runner.run(spec, name="s", root=root, options=ONE)


@pytest.fixture(scope="module")
def side_by_side(tmp_path_factory):
    """What each of two processes found out about our training beside torch's wrapper and beside one process."""
    out = tmp_path_factory.mktemp("side")
    status, said = ended(torchrun("-m", "tests.distributed", str(out)))
    assert status == 0, said
    return [json.loads((out / f"{rank}.json").read_text()) for rank in range(2)]


def test_the_weights_are_those_of_torchs_wrapper_and_the_running_statistics_the_mean_of_its_processes(side_by_side):
    for found in side_by_side:
        assert 0 < found["from torch's"] < 1e-5


def test_all_processes_have_the_same_network(side_by_side):
    assert side_by_side[0]["last of the weights"] == side_by_side[1]["last of the weights"]


def test_four_parts_with_dropout_are_the_same_on_two_processes_as_on_one(side_by_side):
    for found in side_by_side:
        assert found["from one process"] < 1e-5
        assert len(set(found["checksums"])) == 1
        assert found["batches"] == [5, 5]
        for shared, alone in found["frames"].values():
            pd.testing.assert_frame_equal(*(pd.read_json(io.StringIO(text)) for text in (shared, alone)), rtol=1e-3)


def interrupted(root: Path, words: str, interrupt) -> None:
    """Begin or continue the study, and interrupt it once a process said these words: its run has a checkpoint."""
    process = started(root, study(60))
    said_until(process, words)
    interrupt(process)
    status, said = ended(process)
    folder = StudyFolder(root, "s")
    assert status != 0
    assert "interrupted; the same command continues it: torchrun --nproc-per-node 2 -m degradation run s" in said
    done = [folder.is_done(run_id) for run_id in folder.run_ids()]
    kept = [folder.is_done(run_id) for run_id in folder.run_ids() if folder.checkpoint(run_id)]
    assert kept == [False] or (sum(done) == 1 and not kept)  # a busy machine may take the signal between two runs


def test_a_study_that_is_stopped_and_continued_leaves_the_bits_of_one_process_with_two_ghost_batches(tmp_path):
    interrupted(tmp_path / "two", "step 5 of", lambda torchrun: os.kill(rank_1_of(torchrun.pid), signal.SIGTERM))
    interrupted(tmp_path / "two", "step 35 of", lambda torchrun: torchrun.send_signal(signal.SIGINT))  # Ctrl-C
    folder = StudyFolder(tmp_path / "two", "s")
    status, said = ended(started(tmp_path / "two", study(60)))
    assert status == 0, said
    assert "continued from step" in said
    assert said.count("2 runs finished") == 1  # the other process is silent
    found, expected = load(folder.path), in_one_process(tmp_path / "one", study(60))
    assert_same_frames(found, expected)
    assert all(match.holds for match in matches(found.folder, found.study))
    facts = found["runs"].iloc[0]
    assert (facts.processes, facts.backend) == (2, "gloo")
    assert "processes" not in expected["runs"]


def test_a_process_that_dies_ends_all_with_a_line_and_the_study_can_be_continued(tmp_path):
    spec = study(150, networks=("residual",), measure=Measure(probes=(), eval_every=5))
    process = started(tmp_path / "two", spec)
    said_until(process, "evaluate  step 5")
    os.kill(rank_1_of(process.pid), signal.SIGKILL)
    status, said = ended(process)
    assert status == 1
    assert said.count("one of the 2 processes is gone") == 1
    assert "the same command continues it: torchrun --nproc-per-node 2" in said
    folder = StudyFolder(tmp_path / "two", "s")
    assert len(runner.pending(folder, spec)) == 1
    found, expected = in_one_process(tmp_path / "two", spec), in_one_process(tmp_path / "one", spec)
    pd.testing.assert_frame_equal(found["curves"], expected["curves"])


def rank_1_of(agent: int) -> int:
    """The process that torchrun started as rank 1, found by its environment."""
    children = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    [found] = [int(pid) for pid in children if b"\0RANK=1\0" in Path(f"/proc/{pid}/environ").read_bytes()]
    return found
