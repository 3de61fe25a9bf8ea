"""`degradation load` shows what the frames of a study hold, and reads only what it is asked for."""

import json
import shutil
from pathlib import Path

import pytest

import degradation
from degradation.frames import schemas
from degradation.spec import StudySpec
from degradation.store import EXPERIMENTS, StudyFolder
from tests import calling
from tests.calling import Command
from tests.made_frames import make_study

command = calling.command


@pytest.fixture
def made(command: Command) -> Command:
    make_study(Path("runs"), depths=(8, 20), seeds=(0,))
    return command


@pytest.mark.slow
def test_load_counts_the_rows_and_runs_of_every_frame(made: Command) -> None:
    said = made("load", "made", "--json")
    rows = {row["frame"]: row for row in json.loads(said.out)}
    results = degradation.load("runs/made")
    assert set(rows) == {"runs", *schemas.SCHEMAS, *EXPERIMENTS}
    for name, frame in results.items():
        assert (rows[name]["rows"], rows[name]["runs"]) == (len(frame), frame["run_id"].nunique()), name
        assert rows[name]["columns"] == list(frame.columns)[-len(rows[name]["columns"]) :], name
    assert rows["branches"]["runs"] == 2  # residual networks alone


def test_load_of_a_frame_says_what_stands_in_each_column(made: Command) -> None:
    rows = {row["column"]: row for row in json.loads(made("load", "made", "curves", "--json").out)}
    curves = degradation.load("runs/made")["curves"]
    assert list(rows) == list(curves.columns)
    error = rows["error"]
    assert (error["least"], error["greatest"]) == (curves.error.min(), curves.error.max())
    assert error["median"] == curves.error.median()
    assert rows["network"]["first"] == ["plain", "residual"]
    gradients = {row["column"]: row for row in json.loads(made("load", "made", "gradients", "--json").out)}
    missing = degradation.load("runs/made")["gradients"]["update_norm"].isna().sum()
    assert gradients["update_norm"]["missing"] == missing > 0


@pytest.mark.slow
def test_load_of_some_columns_reads_no_other(made: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from degradation.study import results

    asked: list[list[str] | None] = []
    real = results.read_table
    monkeypatch.setattr(results, "read_table", lambda data, columns=None: asked.append(columns) or real(data, columns))
    said = made("load", "made", "gradients", "step", "weight_grad_norm", "--json")
    assert [row["column"] for row in json.loads(said.out)] == ["run_id", "step", "weight_grad_norm"]
    assert asked == [["step", "weight_grad_norm"]] * 4
    asked.clear()
    assert made("load", "made").status == 0
    assert all(columns == [] for columns in asked)


@pytest.mark.slow
def test_load_prints_tables_that_name_what_they_show(made: Command) -> None:
    said = made("load", "made")
    assert "gradients" in said.out
    assert 'degradation.load("runs/made")["curves"]' in said.out
    said = made("load", "made", "runs", "seed", "network")
    assert "plain, residual" in said.out
    assert "least" not in said.out
    assert made("load", "made", "gradients").out.count("different") == 1  # layers: other texts are few, and named


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("load nothing", "no study 'nothing' on disk"),
        ("load made curve", "FRAME: expected runs, curves, gradients"),
        ("load made curves eror", "COLUMN: expected step, epoch, split, statistics, loss, error"),
        ("load empty", "no run of empty is done: nothing to load yet"),
    ],
)
def test_what_cannot_be_loaded_is_refused_in_one_line(made: Command, line: str, message: str) -> None:
    StudyFolder("runs", "empty").write_study(StudySpec().begun().model_dump(mode="json"))
    said = made(*line.split())
    assert (said.status, said.err.count("\n"), said.out) == (2, 1, "")
    assert message in said.err


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ("branches", "it needs a residual network, and no run that is done has one"),
        ("branches ratio", "it needs a residual network, and no run that is done has one"),
        ("lesion", "it needs the experiment 'lesion': run `degradation experiment made lesion` first"),
        ("lesion --json", "it needs the experiment 'lesion': run `degradation experiment made lesion` first"),
    ],
)
def test_of_a_frame_without_rows_it_is_said_what_it_needs(command: Command, asked: str, why: str) -> None:
    make_study(Path("runs"), depths=(8,), seeds=(0,), networks=("plain",))
    shutil.rmtree("runs/made/mechanisms")
    said = command("load", "made", *asked.split())
    assert (said.status, said.out) == (2, "")
    assert said.err == f"degradation: frame {asked.split()[0]} of made has no rows: {why}\n"


def test_results_say_what_they_are_and_the_package_what_it_has(tmp_path: Path) -> None:
    folder = make_study(tmp_path, "mine", depths=(8,), seeds=(0,), experiments=False)
    assert repr(degradation.load(folder.path)) == "<Results of mine: 2 of 2 runs done>"
    (folder.run_path(folder.run_ids()[0]) / "curves.parquet").unlink()
    assert repr(degradation.load(folder.path, skip_damaged=True)) == "<Results of mine: 1 of 2 runs done, 1 skipped>"
    assert set(degradation.__all__) <= set(dir(degradation))


def test_an_error_of_a_specification_names_no_page_of_another_project() -> None:
    with pytest.raises(ValueError, match="nearest valid depths are 20 and 26") as refused:
        degradation.StudySpec(depths=(21,))
    assert "pydantic.dev" not in str(refused.value)
