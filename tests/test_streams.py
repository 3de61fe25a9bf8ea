"""Streams that are closed or full, and terminals without a width: nothing that was asked for is lost by them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from degradation.store import StudyFolder
from tests.made_frames import make_study

pytestmark = pytest.mark.slow

COMMAND = f"{sys.executable} -m degradation"
RUN = (
    f"{COMMAND} run --depths 8 --networks plain --dataset synthetic --set dataset.examples=48 --set dataset.size=8 "
    "--set dataset.test_examples=20 --set recipe.padding=1 --set recipe.batch=16 --steps 6 --threads 1 --jobs 1 "
    "--no-figures"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("place")
    make_study(made / "runs", "tiny", depths=(8,), seeds=(0,), steps=64, experiments=False)
    return made


def shell(line: str, place: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)} | variables
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, cwd=place, env=environment, timeout=120)


@pytest.mark.parametrize("closed", [">&-", "<&- 2>&-"])
def test_a_closed_stream_is_as_the_null_device(place: Path, closed: str) -> None:
    said = shell(f"{COMMAND} status {closed}", place)
    assert (said.returncode, said.stderr) == (0, "")
    assert ("tiny" in said.stdout) == (closed != ">&-")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
@pytest.mark.parametrize("command", ["status tiny --json", "--help"])
def test_a_full_disk_behind_stdout_is_one_line(place: Path, command: str) -> None:
    said = shell(f"{COMMAND} {command} > /dev/full", place)
    assert said.returncode == 2
    assert said.stderr == "degradation: stdout: No space left on device: the output is lost\n"
    assert shell(f"{COMMAND} status nothing 2> /dev/full", place).returncode == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
def test_progress_that_cannot_be_written_ends_no_study(tmp_path: Path) -> None:
    said = shell(f"{RUN} > /dev/full", tmp_path)
    assert (said.returncode, said.stderr.count("\n")) == (2, 1), said.stderr
    folder = StudyFolder(tmp_path / "runs", "synthetic")
    assert [folder.is_done(run_id) for run_id in folder.run_ids()] == [True]
    assert shell(f"{RUN} <&- >&- 2>&-", tmp_path).returncode == 0


@pytest.mark.parametrize("columns", ["0", "many"])
def test_a_width_without_room_is_none(place: Path, columns: str) -> None:
    said = shell(f"{COMMAND} status tiny", place, COLUMNS=columns)
    assert (said.returncode, said.stderr) == (0, "")
    assert "done" in said.stdout
