"""Specs: what they refuse, and the ids that must never change."""

import io

import pandas as pd
import pytest
from pydantic import ValidationError

from degradation.spec import (
    BlockSpec,
    Cifar10,
    Digits,
    Folder,
    Measure,
    Recipe,
    RunSpec,
    StudyRecipe,
    StudySpec,
    Synthetic,
    flatten,
    upgrade,
    upgrade_study,
)
from tests.made_frames import older

FOLDER = Folder(listing="0" * 16, classes=10, examples=100, test_examples=10)


def run_spec(**fields):
    defaults = {"dataset": Cifar10(), "network": "residual", "depth": 56, "shortcut": "A", "seed": 0}
    return RunSpec(**(defaults | {"recipe": Recipe()} | fields))


def test_run_ids_are_pinned():
    # A changed hash would orphan every run on disk; a new field needs a default in `upgrade` and a new golden.
    assert run_spec().run_id == "residual-A-56-s0-f620da63"
    assert run_spec(network="plain", shortcut="none", depth=8, seed=3).run_id == "plain-8-s3-a757ad52"


@pytest.mark.parametrize(
    "fields",
    [
        {"seed": 1}, {"depth": 50}, {"shortcut": "B"}, {"precision": "bf16"}, {"recipe": Recipe(learning_rate=0.2)},
        {"recipe": Recipe(optimizer="adam")}, {"norm": "none"}, {"width": 2}, {"initialization": "dirac"},
        {"block": BlockSpec(order="full")}, {"block": BlockSpec(dropout=0.5)}, {"recipe": Recipe(warmup_steps=1)},
        {"family": "imagenet", "depth": 50}, {"dataset": Cifar10(validation=5000)}, {"measure": Measure(probe_every=7)},
    ],
)  # fmt: skip
def test_every_field_that_changes_the_outcome_changes_the_id(fields):
    assert run_spec(**fields).run_id != run_spec().run_id


@pytest.mark.parametrize("implied", [{"dataset": Cifar10(size=32)}, {"measure": Measure(final_examples=None)}])
def test_a_value_that_earlier_runs_had_without_a_name_changes_no_id(implied):
    assert run_spec(**implied).run_id == "residual-A-56-s0-f620da63"


@pytest.mark.parametrize("named", [{"dataset": Cifar10(size=8)}, {"measure": Measure(final_examples=100)}])
def test_another_value_of_such_a_field_is_hashed(named):
    assert run_spec(**named).run_id != run_spec().run_id


def test_a_run_from_before_a_field_is_read_with_the_value_that_it_had():
    fields = run_spec().model_dump(mode="json")
    del fields["dataset"]["size"], fields["measure"]["final_examples"]
    assert upgrade(fields) == run_spec()


@pytest.mark.parametrize(
    ("dataset", "padding"),
    [(Cifar10(), 4), (Cifar10(size=16), 2), (Cifar10(size=8), 1), (Digits(), 1), (Synthetic(), 2), (FOLDER, 0)],
)
def test_the_default_padding_is_in_proportion_to_the_images(dataset, padding):
    study = StudySpec(dataset=dataset)
    assert study.recipe_at(20).padding == padding
    assert not any("padding" in label for label in study.labels)
    assert any("padding 3" in label for label in StudySpec(dataset=Digits(), recipe={"padding": 3}).labels)


def test_a_study_begun_holds_the_rule_and_the_number():
    begun = StudySpec(dataset=Digits(), arms={"a": {"recipe.warmup_steps": "default"}, "b": {"width": 2}}).begun()
    assert (begun.recipe.warmup_steps, begun.recipe.padding) == ("half", 1)
    assert begun.arms["a"] == {"recipe": {"warmup_steps": "half"}}
    assert begun.begun() == begun


def test_a_study_from_before_keeps_its_rule_of_warm_up():
    fields = StudySpec(recipe={"steps": 700}, arms={"a": {"recipe.warmup_steps": "default"}, "b": {"width": 2}})
    old = upgrade_study(fields.model_dump(mode="json"))
    assert [arm.recipe_at(20).warmup_steps for arm in old.each_arm.values()] == [70, 70]
    assert old.recipe.warmup_steps == "tenth"


def test_images_that_are_not_the_papers_are_named():
    assert "handwritten digits" in " ".join(StudySpec(dataset=Digits()).labels)
    assert "CIFAR-10 averaged to 16x16 pixels" in " ".join(StudySpec(dataset=Cifar10(size=16)).labels)
    assert StudySpec(recipe={"steps": 64_000, "warmup_steps": "paper"}).labels == ()


def test_a_run_on_disk_is_read_back_as_itself():
    run = run_spec(measure=Measure(snapshots=(0, 100)))
    assert upgrade(run.model_dump(mode="json")) == run


def test_a_field_that_an_older_schema_lacked_is_filled_in():
    fields = run_spec().model_dump(mode="json")
    del fields["start"], fields["measure"], fields["precision"]
    assert upgrade(fields | {"schema_number": 0}) == run_spec()


def test_schema_1_knew_sgd_batch_norm_width_1_and_he_alone():
    run = run_spec(norm="batch", width=1, initialization="he", recipe=Recipe(optimizer="sgd", beta2=0.999))
    fields = older(run)
    assert set(fields) == set(RunSpec.model_fields) - {"family", "norm", "width", "initialization", "block"}
    assert set(Recipe.model_fields) - set(fields["recipe"]) == {"optimizer", "beta2", "ghost_batches", "colour"}
    assert upgrade(fields) == run
    assert upgrade(older(run_spec(norm="none"))) != run_spec(norm="none")


def test_schema_2_knew_the_blocks_of_he_2015_alone():
    fields = run_spec().model_dump(mode="json")
    del fields["block"]
    assert upgrade(fields | {"schema_number": 2}) == run_spec(block=BlockSpec())


def test_schema_3_knew_the_cifar_family_and_no_colours_alone():
    fields = run_spec().model_dump(mode="json")
    del fields["family"], fields["recipe"]["colour"], fields["block"]["stride_on"]
    assert upgrade(fields | {"schema_number": 3}) == run_spec(family="cifar", recipe=Recipe(colour=0))


def test_beta2_without_adam_is_refused():
    assert Recipe(optimizer="adam", beta2=0.99).changed_from(Recipe()) == ("optimizer adam", "beta2 0.99")
    with pytest.raises(ValidationError, match=r"beta2 0.99 is Adam's"):
        Recipe(beta2=0.99)


def test_networks_that_are_not_the_papers_are_labelled():
    assert StudySpec(norm="none", width=2).labels == ("not the paper's networks: norm none, width 2",)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depths": (21,)}, "nearest valid depths are 20 and 26"),
        ({"depths": ()}, "at least one value"),
        ({"seeds": (1, 1)}, "1 is given twice"),
        ({"seeds": (-1,)}, "greater than or equal to 0"),
        ({"depth": (20,)}, "Extra inputs"),
        ({"recipe": {"steps": -3}}, "greater than or equal to 1"),
        ({"recipe": {"steps": 5, "warmup_steps": 6}}, "warmup_steps 6 is above steps 5"),
        ({"recipe": {"learning_rate": float("nan")}}, "finite"),
        ({"measure": {"probes": ("activations",)}}, "gradients"),
        ({"dataset": {"name": "mnist"}}, "cifar10"),
        ({"dataset": {"name": "cifar10", "validation": 17}}, "5000"),
        ({"dataset": {"name": "synthetic", "examples": 10, "validation": 10}}, "must leave training images"),
    ],
)
def test_an_impossible_study_is_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        StudySpec.model_validate(fields)


def test_a_plain_network_has_no_shortcut_option():
    with pytest.raises(ValidationError, match="a plain network has shortcut 'none'"):
        run_spec(network="plain", shortcut="A")


@pytest.mark.parametrize(
    ("warmup", "steps", "depth", "expected"),
    [
        ("default", 64_000, 20, 400), ("default", 700, 20, 350), ("default", 5, 20, 2), (33, 700, 110, 33),
        ("half", 700, 110, 350), ("half", 900, 20, 400), ("tenth", 700, 20, 70), ("tenth", 5, 20, 0),
        ("paper", 64_000, 110, 400), ("paper", 64_000, 56, 0), ("paper", 100, 110, 100),
    ],
)  # fmt: skip
def test_the_warmup_of_a_run_is_a_number(warmup, steps, depth, expected):
    assert StudySpec(recipe=StudyRecipe(warmup_steps=warmup, steps=steps)).recipe_at(depth).warmup_steps == expected


@pytest.mark.parametrize(("steps", "milestones"), [(64_000, (32_000, 48_000)), (700, (350, 525)), (7, (3, 5))])
def test_milestones_scale_with_the_steps(steps, milestones):
    assert Recipe(steps=steps).milestones == milestones


def test_labels_say_what_is_not_the_papers():
    assert StudySpec().labels == ()
    short = StudySpec.model_validate({"recipe": {"steps": 700}, "dataset": {"name": "synthetic"}})
    assert [label[:36] for label in short.labels] == [
        "700 steps: not the paper's schedule",
        "synthetic images: a demonstration ch",
    ]


def test_a_changed_recipe_is_labelled():
    study = StudySpec.model_validate({"recipe": {"batch": 64, "flip": False}})
    assert study.labels == ("not the paper's recipe: batch 64, flip False",)


def test_flattened_fields_have_dotted_names():
    assert flatten(run_spec())["recipe.learning_rate"] == 0.1


@pytest.mark.parametrize("letter", ["\x1b", "\0", "\r", "\x7f", "\x9b", "\u202e", "\ud800"])
def test_a_question_that_a_terminal_would_obey_is_refused(letter):
    with pytest.raises(ValidationError, match=rf"question\n.*U\+{ord(letter):04X} is a control character"):
        StudySpec(question=f"why{letter}[2J?")


def test_a_question_may_be_in_any_language():
    for question in ("Warum lernt ein tieferes Netz schlechter?", "更深的网络为什么更难训练？", "لماذا؟ 🤔"):
        assert StudySpec(question=question).question == question


@pytest.mark.parametrize("name", ["NA", "null", "NaN", "nan", "NULL", "None"])
def test_an_arm_that_csv_readers_would_lose_is_refused(name):
    assert pd.isna(pd.read_csv(io.StringIO(f"arm\n{name}\n"))["arm"][0])
    with pytest.raises(ValidationError, match="take this name for a missing value"):
        StudySpec(arms={name: {}, "other": {"width": 2}})
