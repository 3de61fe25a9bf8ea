"""Bad input and bad circumstances through the real command: one line says what is wrong, and nothing is lost."""

import errno
import json
import os
import shlex
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from degradation.cli import main
from degradation.data import cifar10
from degradation.store import CHECKPOINT, DONE, SPEC, STUDY, WEIGHTS
from degradation.study import results
from degradation.study.results import Results
from degradation.training import trainer
from tests import calling, test_data
from tests.calling import Command, Said
from tests.made_frames import make_study

command = calling.command
folders = test_data.folders

SIZES = "--set dataset.examples=48 --set dataset.test_examples=20 --set dataset.size=8 --set recipe.padding=1"
GRID = f"--depths 8 --dataset synthetic {SIZES}"
MACHINE = "--threads 1 --jobs 1 --no-figures"
RUN = f"run {GRID} --steps 12 --set recipe.batch=16 {MACHINE}"
STUDY_PATH = Path("runs/synthetic")
HUGE, LONG, DEEP = "9" * 5000, "9" * 3000, "[" * 3500
"""A number of more digits than Python reads, one that it reads, and a value that is nested beyond its stack."""
FRAMES = ("curves", "gradients", "responses", "branches")

FILES = {
    "empty.toml": "",
    "broken.toml": 'question = "q"\ndepths = 8 20\n',
    "unknown.toml": 'question = "q"\n\n[recipe]\nsteps = 12\nstepz = 3\n',
    "typed.toml": 'question = "q"\n[recipe]\nsteps = "many"\n',
    "depthless.toml": 'question = "q"\ndepths = []\n',
    "huge.toml": f'question = "q"\ndepths = [{HUGE}]\n',
    "deep.toml": f'question = "q"\nx = {DEEP}\n',
    "dotted.toml": f'question = "q"\n{".".join(["a"] * 5000)} = 1\n',
    "unasked.toml": "depths = [8]\n",
    "mute.toml": 'question = ""\ndepths = [8]\n',
    "blank.toml": 'question = """\n  """\ndepths = [8]\n',
    "hexadecimal.toml": f'question = "q"\n[arms.a]\nrecipe.batch = 0x{"F" * 5000}\n',
    "afile": "a file",
}


COUNTS = ("--threads", "--jobs", "--workers")
TOO_MANY = [("experiment made", "--threads"), *(("plan --depths 8", each) for each in COUNTS)]
BIG = ("--seeds ", "--steps ", "--set recipe.batch=", "--set measure.snapshots=", "--set recipe.learning_rate=")

# The undisturbed study, and what every refusal has in common


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Results:
    root = tmp_path_factory.mktemp("undisturbed")
    with pytest.raises(SystemExit) as ended:
        main([*shlex.split(RUN), "--root", str(root)])
    assert ended.value.code == 0
    return results.load(root / "synthetic")


@pytest.fixture
def done(command: Command, undisturbed: Results) -> tuple[str, str]:
    """The undisturbed study in ``runs``: the ids of its plain and its residual run."""
    shutil.copytree(undisturbed.folder.path, STUDY_PATH)
    plain, residual = undisturbed.run_ids
    return plain, residual


def call(command: Command, line: str) -> Said:
    return command(*shlex.split(line))


def assert_lines(said: Said, status: int, *lines: tuple[str, ...]) -> None:
    """The status, and on stderr exactly these lines, each by the words that it holds."""
    assert said.status == status, said.err
    found = said.err.splitlines()
    assert len(found) == len(lines), said.err
    for text, words in zip(found, lines, strict=True):
        assert text.startswith("degradation: ")
        missing = [word for word in words if word not in text]
        assert not missing, text
    assert "Traceback" not in said.err + said.out


def on_disk() -> dict[Path, bytes]:
    return {
        path: path.read_bytes()
        for path in Path().rglob("*")
        if path.is_file() and path.suffix != ".lock" and path.name != ".lock"
    }


def assert_refused(command: Command, line: str, *words: str) -> None:
    """Status 2, one line with the words, and every file as before."""
    before = on_disk()
    assert_lines(call(command, line), 2, words)
    assert on_disk() == before


def assert_completed(command: Command, expected: Results, line: str = RUN) -> Said:
    """The same command ends well, and the study is as if nothing had happened."""
    said = call(command, line)
    assert_lines(said, 0)
    found = results.load(STUDY_PATH)
    for name in FRAMES:
        pd.testing.assert_frame_equal(found[name], expected[name])
    assert found.run_ids == expected.run_ids
    for run_id in found.run_ids:
        found.folder.verify(run_id)
        weights = [study.folder.file(run_id, WEIGHTS) for study in (found, expected)]
        assert weights[0] == weights[1]
    assert not found.folder.leftovers()
    return said


# Words, numbers and files that cannot be meant


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f"{RUN} --depths 21", ("--depths: depth 21", "6n+2", "20 and 26")),
        (f"{RUN} --depths 7", ("--depths: depth 7", "nearest valid depth is 8")),
        (f"{RUN} --depht 8", ("run has no option --depht", "did you mean --depths?")),
        ("run quickstrat", ("no study 'quickstrat'", "did you mean quickstart?")),
        ("run unknown.toml", ("unknown.toml line 5: recipe.stepz", "its fields are", "did you mean steps?")),
        (f"{RUN} --set recipe.momentun=0.8", ("recipe.momentun is not a field", "did you mean momentum?")),
        (f"{RUN} --set momentum=0.8", ("momentum is not a field of a study", "its fields are")),
        (f"{RUN} --set recipe=3", ("--set recipe", "not 3")),
        (f"{RUN} --set measure.snapshots=5", ("--set measure.snapshots", "a list in brackets", "not 5")),
        ("run typed.toml", ("typed.toml line 3: recipe.steps", "expected a whole number", "not 'many'")),
        (f"run {GRID} --steps -5", ("--steps: expected a number of at least 1, not -5",)),
        (f"run {GRID} --set recipe.batch=0", ("--set recipe.batch", "of at least 2, not 0")),
        (f"run {GRID} --steps 5 --warmup-steps 6", ("--steps, --warmup-steps", "warmup_steps 6 is above steps 5")),
        (f"{RUN} --seeds 3 3", ("--seeds: 3 is given twice",)),
        (f"{RUN} --seeds -1", ("--seeds", "of at least 0, not -1")),
        ("run depthless.toml", ("depthless.toml line 2: depths", "at least one value")),
        ("run empty.toml", ("empty.toml line 1", "expected the question")),
        ("run unasked.toml", ("unasked.toml line 1", "expected the question")),
        ("run broken.toml", ("broken.toml is not TOML", "line 2")),
        ("run folder.toml", ("cannot read folder.toml", "directory")),
        ("run latin.toml", ("cannot read latin.toml", "UTF-8")),
        ("run missing.toml", ("no file missing.toml",)),
        (
            "run --depths 8 --dataset cifar100",
            ("--dataset", "cifar10 or digits or synthetic", "'cifar100'", "mean cifar10?"),
        ),
        (f"{RUN} --device gpu", ("--device: expected auto, cpu, cuda, mps, not 'gpu'",)),
        (f"{RUN} --threads 0", ("--threads: expected a whole number of at least 1, not '0'",)),
        (f"{RUN} --jobs 0", ("--jobs: expected auto or a whole number of at least 1, not '0'",)),
        (
            f"run {GRID} --set recipe.batch=16 {MACHINE} --budget 1s",
            ("--budget: even 50 steps take about", "above the 1 s given"),
        ),
        (f"run {GRID} --budget later", ("--budget: expected a time such as 90s", "not 'later'")),
        (f"{RUN} --root afile", ("cannot write afile/synthetic", "run again")),
        (f"{RUN} --root /proc/none", ("cannot write /proc/none/synthetic", "run again")),
        (f"{RUN} --name a/b", ("a study's name has letters", "not 'a/b'")),
        (f"run {GRID} --set recipe.batch=64 {MACHINE}", ("recipe.batch is 64", "48 training examples", "lower")),
        (f"{RUN} --eval-examples 0", ("--eval-examples: expected a number of at least 1, not 0",)),
        (f"{RUN} --set dataset.validation=48", ("--set dataset.validation", "must leave training images")),
        *((f"plan --depths 8 {option}{HUGE}", ("expected at most 4,000 characters",)) for option in BIG),
        *((f"plan --depths 8 {option}{LONG}", ("expected", "999")) for option in BIG[:-1]),
        ("plan --depths 2147483648", ("--depths: expected a depth of at most 10,000 layers, not 2147483648",)),
        (f"plan --depths {LONG}", ("--depths: expected a depth of at most 10,000 layers",)),
        (f"run quickstart --threads {LONG}", ("--threads: expected a whole number of at most",)),
        (f"run quickstart --jobs {LONG}", ("--jobs: expected auto or a whole number of at most",)),
        (f"plan --depths 8 --budget {'9' * 300}h", ("--budget: expected a time such as 90s", "at most 8,784h")),
        (f"plan --depths 8 --set arms={DEEP}", ("nested too deeply",)),
        ("plan huge.toml", ("huge.toml is not TOML", "digits")),
        ("plan deep.toml", ("deep.toml is not TOML: nested too deeply",)),
        ("plan dotted.toml", ("dotted.toml", "a is not a field of a study")),
        *((f"{command} {'n' * 300}", ("no study 'nnn",)) for command in ("status", "load", "plan", "clean")),
        (
            f"run {GRID} {MACHINE} --name {'n' * 300}",
            ("--name: expected a name of at most 255 bytes, not of 300", "nnn"),
        ),
        ("plan --depths 8 --seeds 4294967296", ("--seeds: expected a number below 4,294,967,296, not 4294967296",)),
        ("plan --depths 8 --steps 10000001", ("--steps: expected a number of at most 10,000,000, not 10000001",)),
        *(
            (f"plan {name}.toml", (f"{name}.toml line 1: question: expected the question", "not "))
            for name in ("mute", "blank")
        ),
        ("plan hexadecimal.toml", ("hexadecimal.toml line 3: arms.a.recipe.batch: a whole number of too many digits",)),
        (f"plan --depths 8 --set seeds=0x{LONG}{LONG[:800]}", ("0x999", "a whole number of too many digits")),
        (f"plan --depths 8 --vary width=0x{LONG}{LONG[:800]},1", ("0x999", "a whole number of too many digits")),
        ("plan --depths 8 --set dataset=digits", ('expected a table such as {name = "digits"}', "Digits(), not ")),
        ("plan --depths 8 --set dataset=mnist", ("expected a table such as", "Cifar10() or Digits()", "not 'mnist'")),
        ("plan --depths 8 --set question=", ("--set: expected KEY=VALUE", "not 'question='")),
        ("plan --depths 8 --vary norm=", ("--vary: expected KEY=VALUE", "not 'norm='")),
        ("run pipe.toml", ("cannot read pipe.toml: it is a pipe, not a study file",)),
        ("plan pipe.toml", ("cannot read pipe.toml: it is a pipe, not a study file",)),
        ("plan null.toml", ("cannot read null.toml: it is a character device, not a study file",)),
        *(
            (f"{line} {count} 99999", (f"{count}: expected", "at most", "(this machine has "))
            for line, count in TOO_MANY
        ),
        ("plan --depths 8 --launcher ray --threads 1025", ("--threads: expected a whole number of at most 1,024",)),
        ("plan --networks plain mymlp", ("no study 'mymlp'", "is it a value of --networks?")),
        ("plan --probes gradients mine --depths 8", ("no study 'mine'", "is it a value of --probes?")),
        ("plan --network plain", ("plan has no option --network; did you mean --networks?",)),
        ("plot nothing", ("no study 'nothing' on disk", "under runs are made")),
        ("status nothing", ("no study 'nothing' on disk", "under runs are made")),
        ("export nothing", ("no study 'nothing' on disk", "under runs are made")),
        ("clean nothing --all --yes", ("no study 'nothing' on disk", "under runs are made")),
        ("status mode", ("did you mean made?",)),
        ("plot made curve", ("no figure 'curve'", "choose from curves, depth", "did you mean curves?")),
        ("export made --out afile/tables", ("cannot write afile/tables", "run again")),
        ("plot made curves --out afile", ("cannot write afile", "run again")),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(command: Command, line: str, words: tuple[str, ...]) -> None:
    make_study(Path("runs"), depths=(8,), seeds=(0,))
    for name, text in FILES.items():
        Path(name).write_text(text)
    Path("latin.toml").write_bytes('question = "é"'.encode("latin-1"))
    Path("folder.toml").mkdir()
    os.mkfifo("pipe.toml")
    Path("null.toml").symlink_to(os.devnull)
    assert_refused(command, line, *words)


@pytest.mark.parametrize("empty", ["", " "])
@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("clean made --yes --run EMPTY", "--run"),
        ("clean EMPTY --yes", "NAME"),
        ("run --depths 8 --name EMPTY", "--name"),
        ("run --depths 8 --root=EMPTY", "--root"),
        ("plan EMPTY", "STUDY"),
        ("plan --dataset EMPTY", "--dataset"),
        ("plan --depths 8 --vary EMPTY", "--vary"),
        ("plan --depths 8 --set EMPTY", "--set"),
        ("plan --depths 8 --data-dir EMPTY", "--data-dir"),
        ("plan --depths 8 EMPTY", "STUDY"),
        ("plan --networks plain EMPTY --depths 8", "STUDY"),
        ("load made EMPTY", "FRAME"),
        ("load made curves step EMPTY", "COLUMN"),
        ("plot made EMPTY", "FIGURE"),
        ("export made --out EMPTY", "--out"),
        ("compare made EMPTY", "OTHER"),
        ("probe --weights EMPTY", "--weights"),
        ("status EMPTY", "NAME"),
    ],
)
def test_an_empty_value_is_not_taken_for_none(command: Command, line: str, option: str, empty: str) -> None:
    make_study(Path("runs"), depths=(8,), seeds=(0,))
    before = on_disk()
    said = command(*[word.replace("EMPTY", empty) for word in line.split()])
    assert_lines(said, 2, (f"{option}: expected a value, not {empty!r}",))
    assert on_disk() == before


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(command: Command, device: str) -> None:
    if torch.cuda.is_available() if device == "cuda" else torch.backends.mps.is_available():
        pytest.skip(f"this machine has {device}")
    assert_refused(command, f"{RUN} --device {device}", f"--device {device}", "no such device", "it has", "cpu")


# Data that are not there


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda made: shutil.rmtree(made.given), ("given does not exist", "name the folder that holds")),
        (lambda made: (made.given / cifar10.ARCHIVE).write_bytes(b"no archive"), ("is damaged", "md5", "delete it")),
        (lambda made: (made.put(made.given) / "data_batch_3").write_bytes(b""), ("data_batch_3 is damaged", "delete")),
        (lambda made: (made.put(made.given) / "test_batch").unlink(), ("test_batch is missing", "delete")),
        (lambda made: None, ("could not be downloaded", "no network", "quickstart", "put cifar-10-python.tar.gz")),
    ],
    ids=["missing-folder", "corrupt-archive", "damaged-batch", "missing-batch", "no-network"],
)
def test_data_that_cannot_be_had_are_named_before_anything_is_written(
    command: Command, folders: test_data.Folders, prepare: Callable[[test_data.Folders], object], words: tuple[str, ...]
) -> None:
    prepare(folders)
    assert_refused(command, f"run --depths 8 --steps 12 --data-dir {folders.given} {MACHINE}", *words)
    assert not Path("runs").exists()


# A disk that is full


@pytest.mark.slow
@pytest.mark.parametrize(("writes", "status", "failing"), [(0, 2, 1), (1, 1, 2), (5, 1, 2), (12, 1, 1), (16, 1, 1)])
def test_a_full_disk_fails_with_a_line_and_the_same_command_completes_the_study(
    command: Command, undisturbed: Results, monkeypatch: pytest.MonkeyPatch, writes: int, status: int, failing: int
) -> None:
    free, real = iter(range(writes)), os.fsync

    def fill_up(descriptor: int) -> None:
        if next(free, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", fill_up)
        said = call(command, RUN)
    assert_lines(said, status, *[("cannot write runs/synthetic", "No space left on device", "run again")] * failing)
    assert_completed(command, undisturbed)


# Files of a study that were damaged


@pytest.fixture
def half_done(command: Command, monkeypatch: pytest.MonkeyPatch) -> str:
    """The command stopped by SIGINT at step 5 of the first run: its id."""
    real = trainer.Training._step

    def stopping(training: trainer.Training) -> None:
        real(training)
        if training.position == 5:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as stopped:
        stopped.setattr(trainer.Training, "_step", stopping)
        assert_lines(call(command, RUN), 130, ("interrupted; the same command continues it: degradation run",))
    [checkpoint] = STUDY_PATH.glob(f"*/{CHECKPOINT}")
    return checkpoint.parent.name


@pytest.mark.slow
def test_an_interrupted_study_is_continued_by_the_same_command(
    command: Command, undisturbed: Results, half_done: str
) -> None:
    assert "continued from step" in assert_completed(command, undisturbed).out


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]],
    ids=["emptied", "truncated", "a-bit-flipped"],
)
def test_a_damaged_checkpoint_is_said_and_the_run_starts_again(
    command: Command, undisturbed: Results, half_done: str, damage: Callable[[bytes], bytes]
) -> None:
    checkpoint = STUDY_PATH / half_done / CHECKPOINT
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    assert "starts again at step 0" in assert_completed(command, undisturbed).out


def older(text: str) -> dict[str, Any]:
    """The fields of a study.json as version 0.1 wrote them, without a digest."""
    fields: dict[str, Any] = json.loads(text)["content"]
    return fields


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: text[: len(text) // 2], ("study.json is not JSON", "restore it or delete it")),
        (lambda text: "", ("study.json is not JSON", "restore it or delete it")),
        (lambda text: "[1, 2]", ("study.json", "restore it or delete it")),
        (lambda text: "[" * 100_000, ("study.json is not JSON (nested too deeply)", "restore it or delete it")),
        (lambda text: text.replace('"steps": 12', '"steps": 13'), ("study.json does not hold what was written",)),
        (lambda text: text.replace('"content"', '"contents"'), ("study.json does not hold what was written",)),
        (lambda text: text.replace('"sha256"', '"sha265"'), ("study.json does not hold what was written",)),
        (lambda text: json.dumps(older(text) | {"colour": "red"}), ("study.json", "colour")),
        (lambda text: json.dumps(older(text) | {"depths": "all"}), ("study.json: depths",)),
        (lambda text: "{}", ("study.json", "question", "depths", "recipe")),
    ],
    ids=[
        "truncated",
        "emptied",
        "a-list",
        "deep",
        "changed",
        "without-content",
        "without-digest",
        "older-unknown-key",
        "older-wrong-type",
        "no-fields",
    ],
)
@pytest.mark.parametrize("line", [RUN, "run synthetic", "status synthetic", "plot synthetic", "export synthetic"])
def test_a_study_json_that_is_none_is_named_and_kept(
    command: Command, done: tuple[str, str], line: str, damage: Callable[[str], str], words: tuple[str, ...]
) -> None:
    file = STUDY_PATH / STUDY
    file.write_text(damage(file.read_text()))
    assert_refused(command, line, *words)


def test_a_study_whose_json_was_deleted_keeps_its_done_runs(
    command: Command, done: tuple[str, str], undisturbed: Results
) -> None:
    (STUDY_PATH / STUDY).unlink()
    assert "all runs are done" in assert_completed(command, undisturbed).out


@pytest.mark.slow
def test_a_study_file_changed_under_a_half_done_study_is_refused_with_the_field(
    command: Command, half_done: str, undisturbed: Results
) -> None:
    changed = RUN.replace("--steps 12", "--steps 13")
    assert_refused(command, changed, "recipe.steps = 12", "asked was 13", "--name NEW")
    assert_completed(command, undisturbed)


DAMAGES = {
    "changed": ("curves.parquet", lambda path: path.write_bytes(path.read_bytes()[:-1]), "does not hold what"),
    "removed": ("gradients.parquet", Path.unlink, "is missing"),
    "facts": ("facts.json", lambda path: path.write_text("{}"), "does not hold what"),
    "weights": (WEIGHTS, Path.unlink, "is missing"),
    "spec-truncated": (SPEC, lambda path: path.write_text("{"), "does not hold what"),
    "spec-other": (SPEC, lambda path: path.write_text('{"depth": 9}'), "does not hold what"),
    "spec-removed": (SPEC, Path.unlink, "is missing"),
    "done-truncated": (DONE, lambda path: path.write_text("{"), "is not JSON"),
    "done-emptied": (DONE, lambda path: path.write_text("{}"), "does not hold how the run ended"),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "figures"),
    [*((how, "--no-figures") for how in DAMAGES), ("changed", ""), ("facts", ""), ("spec-other", "")],
)
def test_a_damaged_done_run_is_named_stays_untouched_and_is_healed_by_clean_and_run(
    command: Command, done: tuple[str, str], undisturbed: Results, how: str, figures: str
) -> None:
    (file, damage, words), (plain, residual) = DAMAGES[how], done
    path = STUDY_PATH / plain / file
    damage(path)
    before = on_disk()
    said = call(command, RUN.replace("--no-figures", figures))
    assert_lines(said, 1, (f"{plain} failed: ", words, plain))
    assert "1 run finished" in said.out
    assert {kept: data for kept, data in on_disk().items() if "figures" not in kept.parts} == before
    assert f"{plain} " in call(command, "status synthetic").out
    assert_lines(call(command, f"clean synthetic --run {plain} --yes"), 0)
    assert (STUDY_PATH / residual / DONE).is_file()
    assert_completed(command, undisturbed)


def test_a_damaged_done_run_does_not_keep_pending_runs_from_training(command: Command, done: tuple[str, str]) -> None:
    plain, residual = done
    (STUDY_PATH / plain / SPEC).write_text("{")
    call(command, f"clean synthetic --run {residual} --yes")
    said = call(command, RUN)
    assert_lines(said, 1, (f"{plain} failed", "clean synthetic --run"))
    assert f"{residual}  finished" in said.out


@pytest.mark.parametrize("line", ["plot synthetic", "export synthetic"])
def test_results_with_a_damaged_run_are_neither_drawn_nor_exported(
    command: Command, done: tuple[str, str], line: str
) -> None:
    (STUDY_PATH / done[0] / SPEC).write_text("{}")
    assert_refused(command, line, f"{done[0]}/{SPEC}", "clean synthetic --run")


# Training that ends otherwise


def test_a_learning_rate_that_diverges_ends_well_and_is_named(command: Command) -> None:
    said = call(command, f"{RUN} --set recipe.learning_rate=1e30")
    assert_lines(said, 0)
    assert said.out.count(" diverged: its loss became infinite or not a number") == 2


@pytest.mark.parametrize("line", ["plot synthetic", "plot synthetic curves", "export synthetic"])
def test_nothing_is_drawn_or_exported_of_a_study_without_a_done_run(
    command: Command, half_done: str, line: str
) -> None:
    assert_refused(command, line, "no run of synthetic is done")
