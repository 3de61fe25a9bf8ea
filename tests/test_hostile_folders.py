"""A file of a study that is no file, cannot be read, is nested or large beyond reason: named in one line, no other
run is hidden by it, nothing else is lost, and nobody waits for it."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from degradation.errors import DamagedError
from degradation.store import CHECKPOINT, DONE, FACTS, SPEC, STUDY, WEIGHTS, StudyFolder, frame_file, local
from degradation.study.results import load
from degradation.training.execute import execute
from tests import calling
from tests import made as tiny
from tests.calling import Command, Said
from tests.made_frames import make_study

pytestmark = pytest.mark.slow

command = calling.command
NAME = "hostile"
FILES = (STUDY, SPEC, DONE, FACTS, frame_file("curves"))
COMMANDS = ("status", "status --verify", "load", "load curves", "export", "clean")
SLOW = ("plot curves", "compare other")
"""Tried with one kind alone: what they read comes from the same place."""


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inside").write_text("x")


def a_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.absolute())


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def deep(path: Path) -> None:
    path.write_text('{"a":' * 100_000)


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


KINDS: tuple[Callable[[Path], None], ...] = (a_folder, a_loop, a_pipe, deep, huge, emptied)
"""And `unreadable`, below."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    make_study(root, NAME, depths=(8, 20), seeds=(0,), steps=64, experiments=False)
    make_study(root, "other", depths=(8, 20), seeds=(0,), steps=64, experiments=False)
    return root


@pytest.fixture
def folder(made: Path, command: Command) -> StudyFolder:
    shutil.copytree(made, "runs")
    return StudyFolder("runs", NAME)


def call(command: Command, line: str) -> Said:
    name, *rest = line.split()
    return command(name, NAME, *rest, *(["--format", "png"] if name == "plot" else []))


def victim(folder: StudyFolder, file: str) -> Path:
    return folder.path / file if file == STUDY else folder.run_path(folder.run_ids()[0]) / file


def check(command: Command, folder: StudyFolder, file: str, slow: Sequence[str] = ()) -> None:
    """What every command says and leaves; the damage is done."""
    run_id, *others = StudyFolder("runs", NAME).run_ids() if file != STUDY else ["", ""]
    before = untouched(folder)
    for line in (*COMMANDS, *slow):
        said = call(command, line)
        assert "Traceback" not in said.err
        assert len(said.err.splitlines()) <= 1, said.err
        if line == "status --verify" and file != STUDY:
            assert said.status == 1
            states = [run["state"] for run in json.loads(call(command, "status --verify --json").out)["runs"]]
            assert sorted(states) == ["damaged", "done", "done", "done"]
        elif (file, line) == (FACTS, "load curves"):
            assert said.status == 0  # no fact stands in that frame
        elif line not in ("status", "clean"):
            assert said.status == 2
            assert (run_id or STUDY) in said.err
            assert ("--skip-damaged" in said.err) == (file != STUDY)
    if file != STUDY:
        for line in ("load", "export", *slow):
            said = call(command, f"{line} --skip-damaged")
            assert said.status == 0, said.err
            assert said.err.count("\n") == 1
            assert f"{run_id} is skipped" in said.err
        found = load(folder.path, skip_damaged=True)
        assert set(found.skipped) == {run_id}
        assert set(found["curves"]["run_id"]) == set(others)
    assert untouched(folder) == before


def untouched(folder: StudyFolder) -> dict[str, int]:
    """Every file of the runs, and what is no file."""
    names = {path: path.lstat().st_size for path in sorted(folder.path.glob("*/*")) if path.parent.name.count("-") > 2}
    return {str(path): size for path, size in names.items()}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_hostile_file_is_named_and_hides_no_other_run(
    command: Command, folder: StudyFolder, file: str, kind: Callable[[Path], None]
) -> None:
    kind(victim(folder, file))
    check(command, folder, file, SLOW if kind is a_folder else ())


@pytest.mark.parametrize("file", FILES)
def test_an_unreadable_file_is_named_and_hides_no_other_run(
    command: Command, folder: StudyFolder, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a user without the rights; whoever runs the tests may have them all."""
    refused, opened = str(victim(folder, file)), local._without_waiting

    def opener(path: str, flags: int) -> int:
        if str(path) == refused or Path(path).absolute() == Path(refused).absolute():
            raise PermissionError(13, "Permission denied", path)
        return opened(path, flags)

    monkeypatch.setattr(local, "_without_waiting", opener)
    check(command, folder, file)


def test_a_run_folder_that_cannot_be_listed_is_a_damaged_run(
    command: Command, folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, *_ = folder.run_ids()
    listed = Path.iterdir

    def refuse(path: Path):
        if path.name == run_id:
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    def opener(path: str, flags: int) -> int:
        if run_id in str(path):
            raise PermissionError(13, "Permission denied", path)
        return os.open(path, flags)

    monkeypatch.setattr(Path, "iterdir", refuse)
    monkeypatch.setattr(local, "_without_waiting", opener)
    said = call(command, "status")
    assert (said.status, said.err) == (0, "")
    assert "damaged" in said.out
    assert "Permission denied" in " ".join(said.out.split())


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_hostile_checkpoint_costs_the_steps_behind_it_and_nothing_else(
    tmp_path: Path, kind: Callable[[Path], None]
) -> None:
    run, folder, said = tiny.run_spec("plain"), StudyFolder(tmp_path, "s"), list[str]()
    folder.write_checkpoint(run.run_id, b"x")
    kind(folder.run_path(run.run_id) / CHECKPOINT)
    assert execute(run, folder, tiny.CPU, lambda progress: said.append(progress.message)) == "finished"
    assert any("starts again at step 0" in line for line in said)
    assert {path.name for path in folder.run_path(run.run_id).iterdir() if path.suffix == ".safetensors"} == {WEIGHTS}


# Folders that are not what their names say


def exchange(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def replace_by(one: Path, other: Path) -> None:
    shutil.rmtree(one)
    shutil.copytree(other, one)


def copy_beside(one: Path, other: Path) -> None:
    shutil.copytree(one, one.with_name(f"{one.name}.bak"))


def rename(one: Path, other: Path) -> None:
    one.rename(one.with_name(f"{one.name[:-8]}00000000"))


def forget_the_end(one: Path, other: Path) -> None:
    (one / DONE).unlink()


WRONG: dict[Callable[[Path, Path], None], tuple[int, str]] = {
    exchange: (2, "holds the run"),
    replace_by: (1, "holds the run"),
    copy_beside: (1, "holds the run"),
    rename: (1, "holds the run"),
    forget_the_end: (1, f"{DONE} is missing"),
}
"""What is done to two runs -> how many folders are wrong then, and what is said of them."""


@pytest.mark.parametrize("act", WRONG, ids=lambda act: act.__name__)
def test_a_folder_that_is_not_the_run_of_its_name_is_named_and_never_read(
    folder: StudyFolder, command: Command, act: Callable[[Path, Path], None]
) -> None:
    one, other, *_ = [folder.path / run_id for run_id in folder.run_ids()]
    was = dict(iter(load(folder.path)["curves"].groupby("run_id")["error"]))
    act(one, other)
    count, words = WRONG[act]
    before = untouched(folder)
    for line in ("status", "status --verify"):
        said = call(command, line)
        assert (said.out + said.err).replace("\n", " ").count(words) == count
    assert said.status == 1
    for line in ("load", "export"):
        said = call(command, line)
        assert said.status == 2
        assert said.err.count("\n") == 1
        assert words in said.err
        assert "--skip-damaged" in said.err
    found = load(folder.path, skip_damaged=True)
    assert len(found.skipped) == count
    for run_id, errors in found["curves"].groupby("run_id")["error"]:
        assert list(errors) == list(was[str(run_id)])  # under each name its own numbers
    assert ("holds the run" in call(command, "clean").out.replace("\n", " ")) == (words == "holds the run")
    assert untouched(folder) == before


@pytest.mark.parametrize("act", [lambda path: path.write_text("x"), os.mkfifo, lambda path: path.symlink_to(path)])
def test_what_is_no_folder_under_a_runs_name_is_damaged(
    folder: StudyFolder, command: Command, act: Callable[[Path], object]
) -> None:
    one, *others = folder.run_ids()
    shutil.rmtree(folder.run_path(one))
    act(folder.path / one)
    states = {run["run_id"]: run["state"] for run in json.loads(call(command, "status --json").out)["runs"]}
    assert states == {one: "damaged"} | dict.fromkeys(others, "done")


def test_a_file_that_is_larger_than_what_it_holds_is_not_read(
    folder: StudyFolder, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = victim(folder, frame_file("curves"))
    monkeypatch.setattr(local, "SMALL", 2**10)
    assert call(command, "status --verify").status == 0  # as it is, it is read
    with path.open("r+b") as grown:
        grown.truncate(2**30)
    said = call(command, "status --verify")
    assert said.status == 1
    assert "curves.parquet is larger than its content (1,073,741,824 bytes)" in said.out.replace("\n", "")


def test_weights_are_read_only_where_their_header_says_how_many_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "SMALL", 2**8)
    data, store = save({"a": np.zeros((30, 30))}), local.LocalStore(tmp_path)
    store.write(WEIGHTS, data)
    assert store.read(WEIGHTS) == data
    for wrong in (data + b"x", data[:-1], b"\xff" * 8 + data[8:], b"x" * 1000):
        store.write(WEIGHTS, wrong)
        with pytest.raises(DamagedError, match="larger than its content"):
            store.read(WEIGHTS)
