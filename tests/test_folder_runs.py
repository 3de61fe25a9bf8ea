"""Studies on a folder of images: resumed, moved, changed, with other workers; the ImageNet family by the command."""

import json
import os
import shlex
import shutil
import signal
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors import safe_open

from degradation.cli.reproduce import rerun
from degradation.data import streaming
from degradation.data.manifest import listed
from degradation.errors import UserError
from degradation.launchers import runner
from degradation.runtime.environment import Environment, Options
from degradation.runtime.progress import silent
from degradation.spec import Folder, Measure, StudyRecipe, StudySpec
from degradation.store import StudyFolder
from degradation.study import library
from degradation.study.results import load
from degradation.training import cost
from degradation.training.checkpoint import decode, encode
from degradation.training.trainer import RunCallbacks, Stopped, Training
from tests import calling
from tests.made_folder import SMALL, images, make, run_spec
from tests.test_folder import own_cache  # noqa: F401

pytestmark = pytest.mark.slow

command = calling.command
FRAMES = ("curves", "gradients", "responses", "branches")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make(tmp_path_factory.mktemp("images"))


# One run


def carried_out(run, folder, workers=0, stops=()):
    """The training of a run, stopped at each of ``stops`` and continued from its checkpoint by other workers."""
    kept, source = None, images(folder)
    for stop in (*stops, None):
        environment = Environment(device="cpu", precision="fp32", threads=1, workers=workers)
        training = Training(run, source, environment, silent)
        if kept is not None:
            training.resume(decode(kept))
        host = RunCallbacks(
            should_stop=lambda stop=stop, training=training: training.position == stop,
            save=lambda: None,
            keep_snapshot=lambda step: None,
            save_seconds=1e9,
        )
        try:
            training.train(host)
        except Stopped:
            kept, workers = encode(training.checkpoint()), 1 - workers
        finally:
            training.close()
    return training


@pytest.fixture(scope="module")
def uninterrupted(folder, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return carried_out(run_spec(listed(SMALL, folder)), folder)


@pytest.mark.parametrize(("workers", "stops"), [(2, ()), (0, (1, 4)), (1, (5,))])
def test_a_run_resumed_at_any_step_by_any_number_of_workers_is_the_same_run(folder, uninterrupted, workers, stops):
    found = carried_out(uninterrupted.run, folder, workers, stops)
    for name in FRAMES:
        pd.testing.assert_frame_equal(found.frames()[name], uninterrupted.frames()[name])
    assert found.weights() == uninterrupted.weights()
    assert found.final_facts()["order_checksum"] == uninterrupted.final_facts()["order_checksum"]


def test_both_networks_of_a_pair_see_the_same_crops_and_another_seed_others(folder, uninterrupted):
    plain = carried_out(run_spec(uninterrupted.run.dataset, "plain"), folder)
    other = carried_out(uninterrupted.run.model_copy(update={"seed": 1}), folder)
    checksums = [training.final_facts()["order_checksum"] for training in (uninterrupted, plain, other)]
    assert checksums[0] == checksums[1] != checksums[2]
    assert plain.facts["weight_hash"] == uninterrupted.facts["weight_hash"]


def test_the_linear_layer_has_as_many_outputs_as_there_are_classes(uninterrupted):
    assert uninterrupted.state.network.fc.weight.shape == (3, 64)


# Studies


def study(**fields):
    recipe = StudyRecipe(steps=2, batch=8, padding=0, warmup_steps=0)
    measure = Measure(eval_every=2, probes=("gradients",))
    return StudySpec(**({"depths": (8,), "dataset": SMALL, "recipe": recipe, "measure": measure} | fields))


def options(folder, **fields):
    return Options(**({"jobs": 1, "threads": 1, "workers": 0, "data_dir": folder} | fields))


@pytest.fixture(scope="module")
def done(folder, tmp_path_factory):
    """A done study, and the place of its folder of images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return runner.run(study(), name="s", root=tmp_path_factory.mktemp("runs"), options=options(folder))


def test_several_runs_at_a_time_decode_in_processes_of_their_own(folder, done, tmp_path):
    found = runner.run(study(), name="s", root=tmp_path, options=options(folder, jobs=2, workers=1))
    assert found.run_ids == done.run_ids
    assert list(found["runs"].order_checksum) == list(done["runs"].order_checksum)
    pd.testing.assert_frame_equal(found["curves"], done["curves"])
    assert set(found["runs"].workers) == {1}


def test_a_study_goes_on_with_a_folder_that_moved_and_keeps_its_ids(folder, done, tmp_path):
    shutil.copytree(done.folder.path, tmp_path / "runs" / "s")
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    grown = runner.run(study(seeds=(0, 1)), name="s", root=tmp_path / "runs", options=options(moved))
    assert set(done.run_ids) < set(grown.run_ids)
    runs = grown["runs"].set_index("run_id")
    assert set(runs.loc[list(done.run_ids)].folder) == {str(folder)}
    assert set(runs.folder) == {str(folder), str(moved)}


def test_a_folder_that_changed_is_refused(folder, done, tmp_path):
    shutil.copytree(done.folder.path, tmp_path / "runs" / "s")
    changed = shutil.copytree(folder, tmp_path / "changed")
    (changed / "train" / "ant" / "3.png").unlink()
    with pytest.raises(UserError, match=r"not the folder that the study was begun with: expected 36 .* found 35 "):
        runner.run(study(seeds=(1,)), name="s", root=tmp_path / "runs", options=options(changed))


def test_a_folder_is_needed_to_train_and_not_to_look(command, done, folder):
    root = ["--root", str(done.folder.store.root)]
    assert command("status", "s", *root).status == 0
    plan = command("plan", "s", *root)
    assert "folder: 36 images for training, 15 for testing, 16x16, 3 classes" in plan.out
    assert "random crops of a shorter side of 18 to 28, random flips" in " ".join(plan.out.split())
    assert command("report", "s", *root).status == 0
    assert command("run", "s", *root, "--no-figures").status == 0  # nothing is left to train
    refused = command("run", "s", "--seeds", "1", *root)
    assert refused.status == 2
    assert "lie in a folder: name it with --dataset folder:PATH" in refused.err


def test_experiments_on_trained_networks_say_that_they_do_not_take_it(command, done):
    refused = command("experiment", str(done.folder.path), "lesion")
    assert refused.status == 2
    assert "trains family cifar on data set folder: experiments on trained networks expect" in refused.err


def test_the_command_that_runs_it_again_names_the_folder(command, done, folder):
    line = shlex.join(rerun("s", done.study, done.provenance))
    assert f"--dataset folder:{folder}" in line
    assert "listing" not in line
    said = command("plan", *shlex.split(line)[2:], "--json")
    assert StudySpec.model_validate(said.json["study"]) == done.study
    assert [run["run_id"] for run in said.json["runs"]] == list(done.run_ids)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["imagenet"], "lie in a folder: name it with --dataset folder:PATH"),
        (["imagenet", "--dataset", "folder:"], "expected the folder that holds train and val after the colon"),
        (["imagenet", "--dataset", "folder:nowhere"], "nowhere does not exist: expected PATH/train/CLASS/*.jpg"),
        (["imagenet", "--dataset", "folder:a", "--data-dir", "b"], "names a folder of images: remove one"),
        (["imagenet", "--workers", "-1"], "--workers: expected a whole number of at least 0, not '-1'"),
        (["--dataset", "synthetic", "--set", "recipe.colour=0.1"], "colour is an augmentation of images of a folder"),
    ],
)
def test_what_cannot_be_studied_is_one_line(command, arguments, words):
    said = command("run", *arguments)
    assert said.status == 2
    assert words in said.err
    assert said.err.count("\n") == 1


# The ImageNet family, by the command

SMALLER = ["--set", "dataset.crop=16", "--set", "dataset.shorter=[18,28]", "--set", "dataset.clean_shorter=18"]
QUICK = ["--depths", "18", "--steps", "3", "--eval-every", "3", "--eval-examples", "8", "--set", "recipe.batch=8"]
MACHINE = ["--jobs", "1", "--threads", "1", "--yes"]


def test_the_imagenet_study_trains_stops_and_ends_as_if_it_had_not_stopped(command, folder, monkeypatch):
    line = ["run", "imagenet", "--dataset", f"folder:{folder}", *SMALLER, *QUICK, *MACHINE]
    watch, stopped = RunCallbacks.watch, []

    def interrupted(self):
        if len(stopped) < 4:  # twice in the timing of steps and evaluations of each run, then while it is trained
            stopped.append(None)
        elif len(stopped) == 4:
            stopped.append(os.kill(os.getpid(), signal.SIGINT))
        watch(self)

    monkeypatch.setattr(RunCallbacks, "watch", interrupted)
    said = command(*line, "--workers", "2")
    assert said.status == 130, said.err
    assert "the same command continues it" in said.err
    said = command(*line, "--workers", "0")
    assert said.status == 0, said.err
    assert "continued from step" in said.out
    assert "11,004,227" in said.out  # parameters of ResNet-18 with three classes
    assert "1 matched pair: equal initial weights; equal order, crops and flips" in said.out
    assert {path.stem for path in Path("runs/imagenet/figures").glob("*.png")} >= {"curves", "responses", "branches"}
    found = load("runs/imagenet")
    assert set(found["responses"].stage) == {1, 2, 3, 4, 5}
    assert found["gradients"].set_index("name").stage["fc"].unique() == [6]
    whole = runner.run(found.study, name="whole", root="runs", options=options(folder))
    for name in FRAMES:
        pd.testing.assert_frame_equal(found[name].drop(columns="study"), whole[name].drop(columns="study"))
    assert list(found["runs"].order_checksum) == list(whole["runs"].order_checksum)
    assert command("report", "imagenet").status == 0
    for words in ("3 steps: not the paper's schedule", "learning rate divided at fixed steps: the paper divides it"):
        assert words in Path("runs/imagenet/report.md").read_text()
    assert "expect family cifar" in command("experiment", "imagenet").err


def test_final_weights_hold_what_is_needed_to_use_them(done):
    path = done.folder.run_path(done.run_ids[0]) / "final.safetensors"
    with safe_open(str(path), framework="pt") as opened:
        mean, facts = opened.get_tensor("mean_image"), json.loads(opened.metadata()["degradation"])
    assert mean.shape == (1, 1, 3)
    assert torch.all((mean > 0.3) & (mean < 0.7))
    assert facts["classes"] == ["ant", "bee", "cat"]
    assert Folder.model_validate(facts["run"]["dataset"]).clean_shorter == 18


def test_a_budget_counts_the_time_to_decode_where_that_is_longer(folder, tmp_path, monkeypatch):
    settled = library.with_images(study(), StudyFolder(tmp_path, "s"), folder)
    asked = options(folder, workers=1)
    quick = cost.time_costs(settled, asked)
    decode = streaming.decoded

    def slowly(*arguments):
        time.sleep(0.04)
        return decode(*arguments)

    monkeypatch.setattr(streaming, "decoded", slowly)
    assert cost.time_costs(settled, asked).step.fixed > quick.step.fixed + 0.2
