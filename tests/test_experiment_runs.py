"""Experiments on a study on disk: part by part, continued after an interruption, kept with hashes, loaded and drawn."""

import os
import shutil
import signal
from dataclasses import replace

import pandas as pd
import pytest

from degradation.errors import Interrupted, UserError
from degradation.experiments import REGISTRY
from degradation.experiments.experiment import Settings
from degradation.experiments.run import prepare, resolve_settings, run_experiment
from degradation.experiments.time_estimate import estimate_remaining
from degradation.figures import draw
from degradation.frames import schemas
from degradation.launchers import runner
from degradation.runtime.environment import Options
from degradation.store import WEIGHTS, StudyFolder
from degradation.study.results import load
from tests.calling import command  # noqa: F401
from tests.made import study_spec

pytestmark = pytest.mark.slow

OPTIONS = Options(device="cpu", threads=1, jobs=1)
GIVEN = {"examples": 16, "draws": 1, "points": 2}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    study = study_spec(depths=(14,), measure={"probes": (), "eval_every": 12})
    runner.run(study, name="tiny", root=root, options=OPTIONS)
    return root


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of a study of one trained pair."""
    shutil.copytree(trained / "tiny", tmp_path / "tiny")
    return StudyFolder(tmp_path, "tiny")


def work(folder, name="lesion", **more):
    return prepare(folder, name, OPTIONS, given=GIVEN, **more)


def counting(made, stop_after=None, kill=None):
    """The work with an experiment that counts the parts it measures, and interrupts itself after some."""
    measured = []

    def measure(of, settings, part):
        rows = made.experiment.measure(of, settings, part)
        measured.append((of.run.network, part))
        if len(measured) == stop_after:
            os.kill(os.getpid(), kill or signal.SIGINT)
        return rows

    return replace(made, experiment=replace(made.experiment, measure=measure)), measured


def test_every_finished_run_is_measured_and_its_frame_loads_with_the_usual_keys(folder):
    outcome = run_experiment(work(folder))
    results = load(folder.path)
    assert set(outcome.done) == set(results.run_ids)
    frame = results["lesion"]
    assert list(frame.columns[:5]) == ["study", "run_id", "network", "depth", "seed"]
    assert set(frame["network"]) == {"plain", "residual"}
    assert set(frame["examples"]) <= {0, 16}
    # All 20 test images or the first 16 of them: the whole network's error is one of sixteenths.
    whole = frame.query("kind == 'intact'")["error"] * 16
    assert (whole == whole.round()).all()


def test_an_interruption_loses_at_most_one_part_and_the_next_call_continues(folder):
    interrupted, first = counting(work(folder), stop_after=3)
    with pytest.raises(Interrupted) as ended:
        run_experiment(interrupted)
    assert ended.value.status == 130
    assert len(first) == 3
    again, second = counting(work(folder))
    run_experiment(again)
    assert not set(first) & set(second)
    frame = load(folder.path)["lesion"]
    untouched = StudyFolder(folder.path.parent / "other", "tiny")
    untouched.path.parent.mkdir()
    shutil.copytree(folder.path, untouched.path)
    shutil.rmtree(untouched.path / "mechanisms")
    run_experiment(work(untouched))
    pd.testing.assert_frame_equal(frame, load(untouched.path)["lesion"])


def test_done_means_hashes_written_last_and_is_not_measured_again(folder):
    run_experiment(work(folder))
    place = folder.experiment("lesion")
    [first, _] = place.run_ids()
    assert set(place.done(first)["files"]) == {"lesion.parquet", "facts.json", "spec.json"}
    assert not [file for file in place.run_path(first).iterdir() if file.name.startswith("part-")]
    again, measured = counting(work(folder))
    run_experiment(again)
    assert measured == []
    (place.run_path(first) / "lesion.parquet").write_bytes(b"other")
    with pytest.raises(UserError, match=r"does not hold what was written.*degradation experiment"):
        _ = load(folder.path)["lesion"]


def test_a_part_that_was_changed_is_measured_again(folder):
    interrupted, first = counting(work(folder), stop_after=3)
    with pytest.raises(Interrupted):
        run_experiment(interrupted)
    [part] = folder.experiment("lesion").path.glob(f"*/part-{first[1][1]}.parquet")
    rows = schemas.from_parquet(part.read_bytes())
    part.write_bytes(schemas.to_parquet(rows.assign(error=0.5), {}))
    again, second = counting(work(folder))
    run_experiment(again)
    assert set(first) & set(second) == {first[1]}


def test_an_experiment_whose_folder_is_deleted_under_way_fails_in_one_line(folder):
    place = folder.experiment("lesion")

    def delete(progress):
        if progress.phase == "measure" and progress.step == 2:
            shutil.rmtree(place.run_path(progress.run_id))

    outcome = run_experiment(work(folder), delete)
    assert sorted(outcome.failed) == sorted(folder.run_ids())
    assert all("was changed or deleted" in why for why in outcome.failed.values())
    assert len(run_experiment(work(folder)).done) == 2


def test_settings_are_kept_and_others_are_refused_in_one_line_unless_anew(folder):
    run_experiment(work(folder, "reorder"))
    place = folder.experiment("reorder")
    assert resolve_settings(place, {}) == Settings(**GIVEN)
    with pytest.raises(UserError, match=r"--examples 20: reorder was begun with 16 .*--anew"):
        resolve_settings(place, {"examples": 20})
    other = prepare(folder, "reorder", OPTIONS, given={"examples": 20}, anew=True)
    assert set(other.todo) == set(place.run_ids())
    run_experiment(other)
    assert set(load(folder.path)["reorder"]["examples"]) == {20}


def test_rows_of_other_weights_are_not_loaded_and_are_measured_again(folder):
    run_experiment(work(folder, "identity"))
    place, [run_id, _] = folder.experiment("identity"), folder.run_ids()
    spec = place.spec(run_id)
    place.discard(run_id)
    place.write_spec(run_id, spec | {"weights": "of another training"})
    place.commit(run_id, "finished", {"identity.parquet": b""})
    assert run_id not in set(load(folder.path)["identity"]["run_id"])
    assert work(folder, "identity").todo == (run_id,)


def test_a_run_that_another_process_measures_is_passed_over(folder):
    told = []
    one = work(folder, "identity")
    with folder.experiment("identity").lock(one.fit[0]) as held:
        assert held
        outcome = run_experiment(work(folder, "identity"), told.append)
    assert outcome.done == one.fit[1:]
    assert [progress.phase for progress in told if progress.run_id == one.fit[0]] == ["waiting"]


def test_an_experiment_that_yields_a_column_it_does_not_name_is_a_programming_error(folder):
    made = work(folder, "identity")
    columns = {name: kind for name, kind in made.experiment.columns.items() if name != "cka"}
    wrong = replace(made, experiment=replace(made.experiment, columns=columns))
    with pytest.raises(ValueError, match="cka"):
        wrong.rows(wrong.subject(wrong.fit[0]), "stage-1")


# What is to come


def test_what_was_timed_is_kept_and_the_seconds_are_those_of_what_is_left(folder, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    made = work(folder)
    by_part = {run_id: made.remaining(run_id) for run_id in made.todo}

    def measure(of, settings, part):
        now[0] += 6.0
        return made.experiment.measure(of, settings, part)

    def weight(settings, part):
        return 1.0 if part.startswith("random") else 2.0

    timed = replace(made, experiment=replace(made.experiment, measure=measure, weight=weight))
    found = estimate_remaining(timed)  # one part of weight 2, of the one depth: 3 seconds for each unit
    left = {run_id: timed.remaining(run_id) for run_id in timed.todo}
    assert sum(map(len, by_part.values())) - sum(map(len, left.values())) == 1
    assert found == pytest.approx(3.0 * sum(weight(None, part) for parts in left.values() for part in parts))


def test_of_what_is_done_nothing_is_foreseen(folder):
    run_experiment(work(folder, "identity"))
    assert estimate_remaining(work(folder, "identity")) is None


@pytest.mark.parametrize("name", REGISTRY)
def test_every_part_has_a_weight_above_zero(folder, name):
    made = work(folder, name)
    for run_id in made.todo:
        assert all(made.experiment.weight(made.settings, part) > 0 for part in made.remaining(run_id))


# The command


def test_the_command_measures_draws_and_says_where(folder, command):  # noqa: F811
    said = command("experiment", str(folder.path), "identity", "--examples", "16", "--format", "png", "--threads", "1")
    assert said.status == 0, said.err
    assert "How near is each block to the identity?" in said.out
    assert "2 runs measured in" in said.out
    assert (folder.figures_path() / "identity.png").is_file()
    again = command("experiment", str(folder.path), "identity", "--format", "png", "--json")
    assert again.json["experiments"]["identity"]["settings"]["examples"] == 16
    assert "0 runs to measure" in again.err


def test_chosen_runs_are_measured_alone_and_the_rest_by_the_next_call(folder, command):  # noqa: F811
    asked = ("experiment", str(folder.path), "identity", "--examples", "16", "--format", "png")
    said = command(*asked, "--networks", "plain", "--seeds", "0", "--depths", "14")
    assert said.status == 0, said.err
    assert set(load(folder.path)["identity"]["network"]) == {"plain"}
    assert "1 run to measure" in said.out
    assert "about " in said.out
    rest = command(*asked)
    assert "1 run to measure" in rest.out
    assert set(load(folder.path)["identity"]["network"]) == {"plain", "residual"}


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        (("--depths", "8"), "--depths: no done run of tiny has depth 8: expected 14"),
        (("--seeds", "3"), "has seed 3: expected 0"),
        (("--seeds", "0", "--anew"), "remove the choice of runs"),
    ],
)
def test_a_choice_that_fits_no_run_is_refused(folder, command, choice, says):  # noqa: F811
    said = command("experiment", str(folder.path), "identity", *choice)
    assert said.status == 2
    assert says in said.err


def test_an_unknown_experiment_is_an_error_of_use_with_a_suggestion(folder, command):  # noqa: F811
    said = command("experiment", str(folder.path), "leison")
    assert said.status == 2
    assert "no experiment 'leison': choose from" in said.err
    assert "lesion" in said.err


def test_the_former_name_of_the_command_still_works_and_says_the_new_one(folder, command):  # noqa: F811
    said = command("mechanism", str(folder.path), "leison")
    assert said.err.splitlines()[0] == "degradation: mechanism is now called experiment"
    assert said.err.splitlines()[1] == command("experiment", str(folder.path), "leison").err.strip()
    assert "mechanism" not in command("--help").out


def test_without_experiments_their_figures_are_not_missed_and_asked_by_name_they_say_what_to_run(folder, tmp_path):
    results = load(folder.path)
    assert results["lesion"].empty
    drawn = draw(results, (), ("png",), tmp_path / "out")
    assert not {"lesion", "reorder", "identity"} & (set(drawn.skipped) | {path.stem for path in drawn.paths})
    with pytest.raises(UserError, match="run `degradation experiment tiny lesion` first"):
        draw(results, ("lesion",), ("png",), tmp_path / "out")


def test_a_damaged_experiment_is_named_by_whoever_asks_and_measured_again_once_it_is_deleted(folder, command):  # noqa: F811
    first, second = run_experiment(work(folder)).done
    file = folder.experiment("lesion").run_path(first) / "lesion.parquet"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b"x")
    outcome = run_experiment(work(folder))
    assert (outcome.done, list(outcome.failed)) == ((second,), [first])
    assert file.read_bytes() != whole
    said = command("status", str(folder.path), "--verify")
    assert (said.status, said.err.count("\n")) == (1, 1)
    assert f"lesion/{first}/lesion.parquet does not hold what was written" in said.err
    assert command("status", str(folder.path)).status == 0
    document = command("status", str(folder.path), "--verify", "--json").json
    assert list(document["damaged_experiments"]) == [f"lesion/{first}"]
    assert command("experiment", str(folder.path), "lesion").status == 1
    command("clean", str(folder.path), "--yes")
    assert run_experiment(work(folder)).done == (first, second)
    assert file.read_bytes() == whole
    assert command("status", str(folder.path), "--verify").status == 0


def test_without_its_weights_a_study_keeps_its_frames_and_what_was_measured_on_them(command, folder):  # noqa: F811
    run_experiment(work(folder))
    before = load(folder.path)
    at = ["--root", str(folder.path.parent)]
    shown = command("clean", "tiny", "--weights", *at)
    assert shown.out.count("weights: experiments") == 2
    weights = [folder.run_path(run_id) / WEIGHTS for run_id in folder.run_ids()]
    assert all(path.exists() for path in weights)  # not without a yes
    assert command("clean", "tiny", "--weights", "--yes", *at).status == 0
    assert not any(path.exists() for path in weights)
    after = load(folder.path)
    for frame in ("lesion", "curves", "runs"):
        pd.testing.assert_frame_equal(after[frame], before[frame])
    assert command("status", "tiny", "--verify", *at).status == 0
    assert "experiment" not in command("clean", "tiny", *at).out  # none is outdated
    assert set(work(folder, "reorder").left_out.values()) == {"its weights were deleted"}
    with pytest.raises(UserError, match="deleted to free disk space: train the run again"):
        folder.file(folder.run_ids()[0], WEIGHTS)
    assert "--weights and --all: expected one of them" in command("clean", "tiny", "--weights", "--all", *at).err
