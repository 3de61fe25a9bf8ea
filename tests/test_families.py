"""The two families in specs and plans: which depths each has, what it costs, what its studies say of themselves."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from degradation.errors import UserError
from degradation.networks import cifar_for_run, for_run
from degradation.spec import BlockSpec, Folder, Recipe, RunSpec, StudySpec, grid
from degradation.study import library
from tests import calling
from tests.made_folder import make

command = calling.command
IMAGENET = Folder(listing="0" * 16, classes=1000, examples=1_281_167, test_examples=50_000)
"""As large as ImageNet's."""


def run_spec(depth=18, shortcut="A", dataset=IMAGENET, **fields):
    network = "plain" if shortcut == "none" else "residual"
    defaults = {"dataset": dataset, "family": "imagenet", "network": network, "depth": depth, "shortcut": shortcut}
    return RunSpec(**(defaults | {"seed": 0, "recipe": Recipe(batch=256)} | fields))


# What it costs


@pytest.mark.parametrize(
    ("depth", "parameters", "billions"),
    [
        (18, 11_689_512, 1.8),
        (34, 21_797_672, 3.6),
        (50, 25_557_032, 3.8),
        (101, 44_549_160, 7.6),
        (152, 60_192_808, 11.3),
    ],
)
def test_parameters_and_multiply_adds_are_the_published_ones(depth, parameters, billions):
    run = run_spec(depth, "B", block=BlockSpec(stride_on="1x1"))
    assert grid.parameters_of(run) == parameters
    assert grid.multiply_adds_of(run) / 1e9 == pytest.approx(billions, abs=0.09)


def counted(run):
    """Parameters, and multiply-adds of every convolution and linear layer that a forward goes through."""
    found = []
    with torch.device("meta"):
        network = for_run(run, init_weights=False)
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_hook(lambda m, _i, out: found.append(out[0].numel() * m.weight[0].numel()))
        network(torch.zeros(1, 3, run.dataset.size, run.dataset.size))
    return sum(weight.numel() for weight in network.parameters()), sum(found)


@pytest.mark.slow
@pytest.mark.parametrize("stride_on", ["3x3", "1x1"])
@pytest.mark.parametrize("shortcut", ["none", "A", "B", "C"])
@pytest.mark.parametrize(("depth", "crop"), [(18, 224), (34, 33), (50, 225)])
def test_the_closed_form_is_the_sum_over_the_networks_own_tensors(depth, shortcut, crop, stride_on):
    dataset = IMAGENET.model_copy(update={"crop": crop, "classes": 7})
    run = run_spec(depth, shortcut, dataset, block=BlockSpec(stride_on=stride_on))
    assert counted(run) == (grid.parameters_of(run), grid.multiply_adds_of(run))


@pytest.mark.parametrize("crop", [32, 33, 30])
def test_the_cifar_family_takes_any_crop_and_number_of_classes(crop):
    dataset = IMAGENET.model_copy(update={"crop": crop, "classes": 7})
    run = run_spec(20, "B", dataset, family="cifar")
    assert counted(run) == (grid.parameters_of(run), grid.multiply_adds_of(run))


def test_the_plan_shows_them(command, tmp_path):
    folder = make(tmp_path / "images", classes=("a", "b"))
    said = command("plan", "imagenet", "--dataset", f"folder:{folder}", "--depths", "34", "--shortcuts", "A", "B")
    assert said.status == 0, said.err
    words = " ".join(said.out.split())
    assert "folder: 24 images for training, 10 for testing, 224x224, 2 classes" in words
    assert "random crops of a shorter side of 256 to 480, random flips, random colours (0.1)" in words
    assert "learning rate 0.1, a tenth from 300,000, a hundredth from 450,000; no warm-up" in words
    run = run_spec(34, "B", IMAGENET.model_copy(update={"classes": 2}))
    assert f"34 residual B 0 {grid.parameters_of(run):,} {grid.multiply_adds_of(run) / 1e6:,.2f} M pending" in words
    assert "3 runs, 2 matched pairs" in words


# Existing studies


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depths": (18, 20)}, "depth 20 is not of the ImageNet family; its depths are 18, 34, 50, 101, 152"),
        ({}, "depth 20 is not of the ImageNet family"),
        ({"family": "cifar", "depths": (18,)}, r"not of the CIFAR family 6n\+2"),
        ({"depths": (50, 101)}, "a plain network of the ImageNet family has 18, 34, 50 layers, not 101"),
        ({"depths": (18,), "norm": "none"}, "the ImageNet family is built with norm batch alone, not none"),
        ({"depths": (18,), "width": 2}, "with width 1 alone, not 2"),
        ({"depths": (18,), "initialization": "dirac"}, "with initialization he alone, not dirac"),
        ({"depths": (18,), "block": {"order": "full"}}, "with order original alone, not full"),
        ({"family": "cifar", "block": {"stride_on": "1x1"}}, "stride_on is a bottleneck's: take family imagenet"),
        ({"depths": (18,), "dataset": {"name": "cifar10"}, "recipe": {"colour": 0.1}}, "leave recipe.colour out"),
        ({"family": "vgg", "depths": (18,)}, "'cifar' or 'imagenet'"),
    ],
)
def test_what_a_family_does_not_have_is_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        StudySpec.model_validate({"family": "imagenet", "dataset": {"name": "folder"}} | fields)


def test_a_single_run_is_checked_alike():
    for fields, message in [
        ({"depth": 101, "shortcut": "none"}, "18, 34, 50 layers, not 101"),
        ({"depth": 20}, "its depths are 18"),
        ({"dataset": Folder()}, "was not read"),
    ]:
        with pytest.raises(ValidationError, match=message):
            run_spec(**fields)


@pytest.mark.parametrize("depth", ["20", "18"])
def test_the_command_names_the_option(command, depth):
    said = command("plan", "imagenet", "--depths", depth, *(["--family", "cifar"] if depth == "18" else []))
    assert (said.status, said.err.count("\n")) == (2, 1)
    assert f"--depths: depth {depth} is not of the" in said.err


def test_residual_networks_alone_go_as_deep_as_the_table():
    study = StudySpec(family="imagenet", depths=(18, 152), networks=("residual",), dataset=IMAGENET)
    assert [run.depth for run in grid.runs(study)] == [152, 18]


def test_the_place_of_the_stride_may_be_an_arm():
    study = StudySpec(
        family="imagenet", depths=(50,), dataset=IMAGENET, arms={"3x3": {}, "1x1": {"block.stride_on": "1x1"}}
    )
    assert len(grid.pairs(grid.runs(study))) == 2


def test_networks_are_taken_apart_in_the_cifar_family_alone():
    with pytest.raises(UserError, match="is of the ImageNet family: expected a network of the CIFAR family"):
        cifar_for_run(run_spec())


# What its studies must say


def test_the_study_is_the_papers_recipe_but_for_when_the_learning_rate_is_divided():
    study = library.read(library.shipped()["imagenet"])
    assert study.labels == ("learning rate divided at fixed steps: the paper divides it when the error plateaus",)
    assert (study.recipe.batch, study.recipe.steps, study.recipe.milestones) == (256, 600_000, (300_000, 450_000))
    assert study.dataset == Folder(crop=224, shorter=(256, 480), clean_shorter=256)


def test_labels_say_what_is_not_the_papers():
    study = StudySpec.model_validate(
        {"family": "imagenet", "depths": (50,), "dataset": {"name": "folder"}, "recipe": {"steps": 100, "flip": False}}
    )
    assert study.labels[:2] == (
        "100 steps: not the paper's schedule",
        "not the paper's recipe: batch 128, flip False, colour 0.0",
    )
    assert study.labels[3] == "the bottleneck's stride is on its 3x3 convolution: the paper's is on the first 1x1 one"
