"""The command that a report prints means the very study that it is of."""

import shlex
from pathlib import Path

import pytest

from degradation.cli.reproduce import rerun
from degradation.spec import Cifar10, Digits, Measure, StudyRecipe, StudySpec, Synthetic
from degradation.study import library
from degradation.study.results import load
from tests import calling
from tests.calling import CHECKOUT, Command

command = calling.command

STUDIES = {
    "the defaults": StudySpec(),
    "a study that ships": library.read(library.shipped()["quickstart"]),
    "one that ships, with options": library.read(library.shipped()["cifar10-short"]).model_copy(
        update={"precision": "bf16", "seeds": (4, 3)}
    ),
    "no probe": StudySpec(measure=Measure(probes=(), eval_every=7, eval_examples=100, snapshots=(1, 20))),
    "a cheap end": StudySpec(measure=Measure(eval_examples=100, final_examples=100)),
    "small images": StudySpec(dataset=Cifar10(size=8), recipe=StudyRecipe(steps=700, warmup_steps="tenth")),
    "digits, as they are kept on disk": StudySpec(dataset=Digits(), depths=(8,)).begun(),
    "every field of the recipe": StudySpec(
        recipe=StudyRecipe(
            learning_rate=1e-05, momentum=0.5, weight_decay=0, batch=64, steps=70, warmup_steps=3, padding=0, flip=False
        )
    ),
    "the paper's warm-up and split": StudySpec(
        dataset=Cifar10(validation=5000), recipe=StudyRecipe(warmup_steps="paper")
    ),
    "synthetic images": StudySpec(dataset=Synthetic(noise=0.25, size=8, examples=50), shortcuts=("C", "A")),
    "a question that a shell would read": StudySpec(
        question="Is \"it\" $HOME, `ls` or '\\n'? <script> é \t | --seeds 3\nsecond line", depths=(8,)
    ),
    "arms that ship, with options": library.read(library.shipped()["batch-norm"]).model_copy(update={"seeds": (7,)}),
    "arms": StudySpec(
        arms={
            "sgd": {},
            "adam, fast": {"recipe.optimizer": "adam", "recipe.learning_rate": 0.003},
            "wide": {"width": 2},
        }
    ),
    "one that ships, without what it sets": library.read(library.shipped()["quickstart"]).model_copy(
        update={"measure": Measure()}
    ),
}


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES.keys())
def test_the_printed_command_is_read_back_into_an_equal_study(command: Command, study: StudySpec) -> None:
    line = shlex.join(rerun("mine", study, {"device": "cpu", "threads": "2", "deterministic": "True"}))
    program, run, *options = shlex.split(line)
    assert (program, run) == ("degradation", "run")
    said = command("plan", *options, "--json")
    assert said.status == 0, said.err
    assert StudySpec.model_validate(said.json["study"]) == study.begun()
    assert said.json["name"] == "mine"


def test_a_study_that_ships_is_run_again_by_its_name_and_what_differs() -> None:
    results = load(CHECKOUT / "reports" / "cifar10-short")
    assert shlex.join(rerun(results.name, results.study, results.provenance)) == (
        "degradation run cifar10-short --warmup-steps tenth --precision bf16 --device cpu --threads 1"
    )


def test_where_runs_differ_in_threads_the_command_leaves_them_open(tmp_path: Path) -> None:
    line = rerun("mine", StudySpec(), {"device": "cpu", "threads": ["1", "2"], "deterministic": "False"})
    assert "--threads" not in line
    assert "--deterministic" not in line
