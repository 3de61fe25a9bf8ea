"""Many runs are read at once: nothing twice, nothing that is not asked for, and as one by one."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pytest

from degradation.errors import DamagedError
from degradation.frames import schemas
from degradation.launchers import runner
from degradation.launchers.attempts import LaunchContext
from degradation.report.content import contents
from degradation.runtime.environment import Options
from degradation.runtime.progress import silent
from degradation.spec import RunSpec, StudyRecipe, StudySpec, grid
from degradation.store import EXPERIMENTS, FACTS, SPEC, WEIGHTS, StudyFolder, frame_file
from degradation.store.local import LocalStore
from degradation.study.library import stored
from degradation.study.pairs import matches
from degradation.study.results import NAMES, Results
from degradation.study.snapshot import StudySnapshot, each
from degradation.study.status import final_errors, run_statuses
from tests import calling
from tests.calling import Command
from tests.made_folders import make_folders
from tests.made_frames import make_study, write_run

pytestmark = pytest.mark.slow

command = calling.command
STUDY = StudySpec(depths=(8, 20), seeds=(0, 1, 2), recipe=StudyRecipe(steps=64))


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """Twelve done runs with weights."""
    return make_folders(tmp_path, "many", STUDY)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file is read, by its name in the store."""
    counted: Counter[str] = Counter()
    real = LocalStore.read
    monkeypatch.setattr(LocalStore, "read", lambda store, name: (real(store, name), counted.update([name]))[0])
    return counted


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, str]]:
    """How often each file of a run is compared with its hash."""
    counted: Counter[tuple[str, str]] = Counter()
    real = StudyFolder.file

    def file(folder: StudyFolder, run_id: str, name: str) -> bytes:
        counted.update([(run_id, name)])
        return real(folder, run_id, name)

    monkeypatch.setattr(StudyFolder, "file", file)
    return counted


def kinds(read: Counter[str]) -> set[str]:
    """The names of the files read, without the runs that they are of."""
    return {Path(name).name for name in read}


# What is read


def test_a_frame_reads_of_each_run_what_it_says_and_that_frame_once(folder: StudyFolder, read: Counter[str]) -> None:
    assert len(Results(folder)["curves"])
    assert kinds(read) == {"study.json", "done.json", SPEC, frame_file("curves")}
    assert set(read.values()) == {1}


def test_a_column_is_read_once_and_a_further_one_alone(folder: StudyFolder, read: Counter[str]) -> None:
    results = Results(folder)
    read.clear()
    assert list(results.frame("gradients", ("step", "name"))) == ["run_id", "step", "name"]
    assert kinds(read) == {frame_file("gradients")}
    results.frame("gradients", ("name", "step"))
    assert set(read.values()) == {1}
    results.frame("gradients", ("step", "stage"))
    assert set(read.values()) == {2}


def test_status_reads_neither_weights_nor_gradients(folder: StudyFolder, read: Counter[str], command: Command) -> None:
    assert command("status", str(folder.path)).status == 0
    assert kinds(read) == {"study.json", "done.json", SPEC, frame_file("curves")}
    assert max(read.values()) == 1


def test_a_report_reads_each_frame_once_and_no_weights(folder: StudyFolder, read: Counter[str]) -> None:
    contents(Results(folder), ("degradation", "run"))
    files = {frame_file(name) for name in ("curves", "gradients", "responses", "branches")}
    assert kinds(read) == {"study.json", "done.json", SPEC, FACTS, *files}
    twice = {Path(name).name for name, times in read.items() if times > 1}
    assert twice <= {frame_file("curves")}


def test_a_study_is_listed_once_whatever_is_asked_of_it(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    listed, tree = [], LocalStore.tree
    monkeypatch.setattr(LocalStore, "tree", lambda store, name: (listed.append(name), tree(store, name))[1])
    results = Results(folder)
    assert len(results["runs"]) == len(matches(results.folder, results.study)) * 2 == 12
    assert not len(results["lesion"])
    assert listed == ["many"]


# What is hashed


def test_a_run_with_nothing_pending_hashes_each_file_once_and_no_weights(
    folder: StudyFolder, hashed: Counter[tuple[str, str]], command: Command
) -> None:
    said = command("run", "many", "--root", str(folder.store.root), "--format", "png")
    assert said.status == 0, said.err
    assert "all runs are done" in said.out
    assert set(hashed.values()) == {1}
    assert {file for _, file in hashed} == {SPEC, FACTS, *map(frame_file, ("curves", *STUDY.measure.probes))}


def test_a_run_that_trains_hashes_what_was_done_once_and_little_of_what_it_wrote(
    folder: StudyFolder, hashed: Counter[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    [lost, *_] = grid.runs(STUDY)
    folder.remove_run(lost.run_id)

    def launch(work: LaunchContext, runs: Sequence[RunSpec], *_: object) -> dict[str, str]:
        for run in runs:
            write_run(work.folder, run)
        return {}

    monkeypatch.setattr("degradation.launchers.local.launch", launch)
    monkeypatch.setattr("degradation.launchers.local.check", lambda *_: None)
    assert len(runner.execute_study(folder, STUDY, Options(jobs=1), silent).finished) == 12
    assert set(hashed.values()) == {1}
    assert WEIGHTS not in {file for _, file in hashed}
    assert {file for run_id, file in hashed if run_id == lost.run_id} == {SPEC}


def test_status_verifies_everything_where_it_is_asked_to(
    folder: StudyFolder, hashed: Counter[tuple[str, str]], command: Command
) -> None:
    run_id = folder.run_ids()[3]
    (folder.run_path(run_id) / WEIGHTS).write_bytes(b"other")
    asked = ("status", str(folder.path), "--json")
    assert {run["state"] for run in command(*asked).json["runs"]} == {"done"}
    hashed.clear()
    said = command(*asked, "--verify")
    assert said.status == 1
    found = {run["run_id"]: run for run in said.json["runs"]}
    assert found[run_id]["state"] == "damaged"
    assert f"{run_id}/{WEIGHTS} does not hold what was written" in found[run_id]["note"]
    assert sum(file == WEIGHTS for _, file in hashed) == 12
    assert set(hashed.values()) == {1}


def test_runs_whose_own_ending_no_digest_protects_are_named(folder: StudyFolder, command: Command) -> None:
    asked = ("status", str(folder.path), "--verify")
    assert command(*asked, "--json").json["without_digest"] == []
    assert "digest of its own" not in command(*asked).out
    run_id = folder.run_ids()[3]
    done = folder.run_path(run_id) / "done.json"
    done.write_text(json.dumps(folder.done(run_id)))
    assert command(*asked, "--json").json["without_digest"] == [run_id]
    said = command(*asked)
    assert said.status == 0
    assert f"1 done runs ({run_id} first)" in said.out.replace("\n", " ")


def test_all_studies_are_not_verified_at_once(command: Command) -> None:
    assert command("status", "--verify").err == "degradation: --verify: expected the NAME of the study to verify\n"


def test_weights_that_are_gone_are_seen_without_reading_any(folder: StudyFolder, read: Counter[str]) -> None:
    run_id = folder.run_ids()[0]
    (folder.run_path(run_id) / WEIGHTS).unlink()
    damaged = [found for found in run_statuses(folder, STUDY) if found.state == "damaged"]
    assert [found.run_id for found in damaged] == [run_id]
    assert "is missing" in damaged[0].note
    assert kinds(read) == {"done.json", SPEC}


# Damage


@pytest.mark.parametrize("ask", [lambda r: r["gradients"], lambda r: r.frame("gradients", ("step",))])
def test_the_first_damaged_file_is_named_among_many(folder: StudyFolder, ask: object) -> None:
    _, second, *_, last = folder.run_ids()
    for run_id in (last, second):
        (folder.run_path(run_id) / frame_file("gradients")).write_bytes(b"other")
    with pytest.raises(DamagedError, match=rf"{second}/gradients\.parquet does not hold what was written"):
        ask(Results(folder))  # type: ignore[operator]


def test_a_run_found_damaged_stays_so_for_whoever_asks_next(folder: StudyFolder) -> None:
    run_id = next(run_id for run_id in folder.run_ids() if run_id.startswith("plain-8"))
    (folder.run_path(run_id) / frame_file("curves")).write_bytes(b"other")
    snapshot = StudySnapshot(folder)
    assert len(matches(snapshot, STUDY)) == 6  # nothing has read its curves
    errors = {(error.network, error.depth): error.seeds for error in final_errors(snapshot, STUDY)}
    assert errors["plain", 8] == 2
    assert errors["plain", 20] == 3
    assert len(matches(snapshot, STUDY)) == 5
    assert next(found.state for found in run_statuses(snapshot, STUDY) if found.run_id == run_id) == "damaged"


def test_a_survey_sees_what_was_written_when_it_looks_again(tmp_path: Path) -> None:
    folder = make_study(tmp_path, depths=(8,), seeds=(0,))
    snapshot, study = StudySnapshot(folder), stored(folder).model_copy(update={"seeds": (0, 1)})
    [first, second] = runner.pending(snapshot, study)
    write_run(folder, first)
    assert runner.pending(snapshot, study) == (first, second)
    snapshot.look_again()
    assert runner.pending(snapshot, study) == (second,)


# As one by one


def one_by_one(results: Results, name: str) -> pd.DataFrame:
    """The frame joined run by run, as a slow and obvious reader would."""
    parts = []
    for run_id in results.run_ids:
        place = results.folder.of_experiment(name) if name in EXPERIMENTS else results.folder
        if place.is_done(run_id) and frame_file(name) in place.done(run_id)["files"]:
            part = schemas.from_parquet(place.file(run_id, frame_file(name)))
            parts.append(pd.DataFrame(results._keys(run_id), index=part.index).join(part))
    return pd.concat(parts, ignore_index=True)


def studies(root: Path) -> Iterator[Results]:
    """Arms with a key that some runs lack, several shortcuts and a diverged run."""
    arms = {"sgd": {}, "adam": {"recipe": {"optimizer": "adam", "learning_rate": 0.001}}}
    yield Results(make_study(root, "arms", depths=(8, 14), seeds=(0, 1), arms=arms))
    lost = [("plain", 20, 1)]
    yield Results(make_study(root, "lost", depths=(8, 20), seeds=(0, 1), shortcuts=("A", "B"), diverged=lost))


def test_frames_of_many_runs_are_those_of_one_run_after_the_other(tmp_path: Path) -> None:
    for results in studies(tmp_path):
        for name in NAMES[1:]:
            found = results[name]
            expected = one_by_one(results, name)
            pd.testing.assert_frame_equal(found, expected, check_exact=True)
            assert [repr(kind) for kind in found.dtypes] == [repr(kind) for kind in expected.dtypes]


OTHERS = ("curves", "responses", "branches")


def test_runs_whose_frames_have_other_columns_are_read_as_one_by_one(tmp_path: Path) -> None:
    folder = make_study(tmp_path, depths=(8,), seeds=(0,))
    study = stored(folder).model_copy(update={"seeds": (0, 1)})
    folder.write_study(study.model_dump(mode="json"))
    for run in [run for run in grid.runs(study) if run.seed == 1]:
        table = schemas.from_parquet(folder.file(folder.run_ids()[0], frame_file("gradients")))
        narrow = schemas.to_parquet(table.drop(columns="update_norm").astype({"stage": "int32"}), {})
        folder.write_spec(run.run_id, run.model_dump(mode="json"))
        others = {frame_file(name): folder.file(folder.run_ids()[0], frame_file(name)) for name in OTHERS}
        folder.commit(run.run_id, "finished", others | {FACTS: b"{}", frame_file("gradients"): narrow})
    results = Results(folder)
    pd.testing.assert_frame_equal(results["gradients"], one_by_one(results, "gradients"), check_exact=True)
    some = results.frame("gradients", ("stage", "update_norm"))
    assert some["update_norm"].isna().sum() == results["gradients"]["update_norm"].isna().sum()


def test_some_columns_hold_what_the_whole_frame_holds(folder: StudyFolder) -> None:
    results = Results(folder)
    for name, columns in (("responses", ("statistics", "step", "std", "name")), ("curves", ("split", "error"))):
        some, whole = results.frame(name, columns), results[name]
        assert (some["run_id"].astype(str) == whole["run_id"]).all()
        for column in columns:
            assert (some[column].astype(object) == whole[column].astype(object)).all()
    assert list(some["run_id"].cat.categories) == sorted(results.run_ids)
    assert results.frame("lesion", ("error",)).empty


def test_work_on_many_keeps_its_order_and_raises_what_the_first_raised() -> None:
    assert each(lambda number: number * number, range(100)) == [number * number for number in range(100)]

    def fail(number: int) -> None:
        if number in (3, 50):
            raise DamagedError(f"number {number}")

    with pytest.raises(DamagedError, match="number 3"):
        each(fail, range(100))


def test_what_killed_processes_left_in_done_folders_goes_with_the_next_run(folder: StudyFolder) -> None:
    run_id, *_ = folder.run_ids()
    for name in (".writing-123", ".lock", ".lease-7"):
        (folder.run_path(run_id) / name).write_bytes(b"x")
    runner.execute_study(folder, stored(folder), Options(jobs=1), silent)
    assert not [path for path in folder.path.glob("*/.*") if path.parent.name in folder.run_ids()]
    assert StudySnapshot(folder).ended() == folder.run_ids()
