"""What Python code gives that cannot be meant: one line says what was expected, as on the command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import degradation
from degradation.errors import UserError
from degradation.runtime.environment import Options
from degradation.spec import StudySpec, Synthetic
from degradation.study.results import Results
from tests import made
from tests.made_frames import make_study

SPEC = made.study_spec()


def wrong(value: Any) -> Any:
    """What a type checker would refuse."""
    return value


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: degradation.load(wrong(5)), "folder: expected the path or the URL of a study, not 5"),
        (lambda: degradation.load(wrong(None)), "folder: expected the path or the URL of a study, not None"),
        (lambda: degradation.run(wrong("quickstart"), name="s"), "study: expected a StudySpec, such as "),
        (lambda: degradation.run(SPEC, name=wrong(5)), "name: expected a text, not 5"),
        (lambda: degradation.run(SPEC, name=""), "name: a study's name has letters"),
        (lambda: degradation.run(SPEC, name="a/b"), "name: a study's name has letters"),
        (lambda: degradation.run(SPEC, name=".a"), "name: a study's name has letters"),
        (lambda: degradation.run(SPEC, name="\u00e4" * 128), "name: expected a name of at most 255 bytes, not of 256"),
        (lambda: degradation.run(SPEC, name="s", root=wrong(5)), "root: expected a path or a URL, not 5"),
        (
            lambda: degradation.run(SPEC, name="s", options=wrong({"jobs": 1})),
            "options: expected degradation.runtime.",
        ),
        (lambda: degradation.run(SPEC, name="s", options=Options(threads=99_999)), "--threads: expected a whole"),
        (lambda: degradation.run(SPEC, name="s", options=Options(jobs=0)), "--jobs: expected a whole number from 1"),
        (lambda: degradation.run(SPEC, name="s", options=Options(workers=-1)), "--workers: expected a whole number"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(
    call: Callable[[], object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as refused:
        call()
    assert str(refused.value).startswith(message)
    assert "--name" not in str(refused.value)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("synthetic", "{name = \"synthetic\"}, in Python Synthetic(), not 'synthetic'"),
        (Synthetic, '{name = "synthetic"}, in Python Synthetic(), not <class'),
        ("cifar", "in Python Cifar10() or Digits() or Synthetic() or Folder(), not 'cifar'"),
        (None, "in Python Cifar10() or Digits() or Synthetic() or Folder(), not None"),
    ],
)
def test_a_data_set_that_is_none_is_refused_with_what_is_one(dataset: Any, message: str) -> None:
    with pytest.raises(ValueError, match="expected a table such as") as refused:
        StudySpec(dataset=dataset)
    assert message in str(refused.value)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = make_study(tmp_path_factory.mktemp("runs"), depths=(8,), seeds=(0,), networks=("plain",))
    return degradation.load(folder.path)


@pytest.mark.parametrize("frame", ["curves", "runs", "branches"])
def test_one_column_may_be_named_alone(results: Results, frame: str) -> None:
    column = "depth" if frame == "runs" else "epoch" if frame == "curves" else "ratio"
    assert list(results.frame(frame, column).columns) == ["run_id", column]
    assert list(results.frame(frame, ("run_id",)).columns)[:1] == ["run_id"]


@pytest.mark.parametrize(
    ("frame", "columns", "message", "meant"),
    [
        ("curves", ("eror",), "frame curves has no column 'eror': expected step, epoch, split", "error"),
        ("curves", ("step", "depth"), "frame curves has no column 'depth': expected step, epoch, split", ""),
        ("branches", "ratios", "frame branches has no column 'ratios': expected step, block", "ratio"),
        ("runs", "depht", "frame runs has no column 'depht': expected study, run_id", "depth"),
        ("curve", "step", "frame: expected runs, curves, gradients", "curves"),
        ("curves", 5, "columns: expected names of columns, not 5", ""),
    ],
)
def test_a_column_that_is_not_there_is_refused_with_those_that_are(
    results: Results, frame: str, columns: Any, message: str, meant: str
) -> None:
    with pytest.raises(UserError) as refused:
        results.frame(frame, columns)
    assert str(refused.value).startswith(message)
    assert not meant or str(refused.value).endswith(f"; did you mean {meant}?")


def test_the_package_lists_its_names_alone() -> None:
    assert {name for name in dir(degradation) if not name.startswith("__")} == {
        name for name in degradation.__all__ if not name.startswith("__")
    }


def test_the_former_name_of_the_error_is_the_same_class_and_says_the_new_one() -> None:
    with pytest.warns(DeprecationWarning, match="UserError"):
        from degradation.errors import UseError
    assert UseError is UserError
