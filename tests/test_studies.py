"""Study files, names and options become the study that was meant, or one line that says what is wrong."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from degradation.errors import DamagedError, UserError
from degradation.spec import PAPER_STEPS, StudyRecipe, StudySpec, Synthetic
from degradation.store import StudyFolder
from degradation.study import library
from tests.calling import SHIPPED

CHECKOUT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(text: str) -> Path:
    path = Path("x.toml")
    path.write_text(text)
    return path


def refusal(text: str) -> str:
    with pytest.raises(UserError) as caught:
        library.read(written(text))
    return str(caught.value)


# What ships


def test_the_studies_that_ship_open_with_their_question() -> None:
    assert list(library.shipped()) == list(SHIPPED)
    for path in library.shipped().values():
        first = path.read_text().splitlines()[0]
        assert first == f'question = "{library.read(path).question}"'


def test_the_paper_study_is_the_papers_schedule_and_the_others_say_that_they_are_not() -> None:
    found = {name: library.read(path) for name, path in library.shipped().items()}
    assert found["paper"].labels == ()
    assert found["paper"].recipe == StudyRecipe(steps=PAPER_STEPS, warmup_steps="paper")
    assert found["paper"].recipe_at(110).warmup_steps == 400
    assert found["paper"].recipe_at(56).warmup_steps == 0
    assert len(found["cifar10-short"].labels) == 1
    assert any("handwritten digits" in label for label in found["quickstart"].labels)


def test_a_file_inside_the_package_is_taken_before_the_checkouts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "degradation"
    for folder, names in (
        (package / "studies", ["both", "inside"]),
        (tmp_path / "studies", ["both", "beside"]),
    ):
        folder.mkdir(parents=True)
        for name in names:
            (folder / f"{name}.toml").touch()
    monkeypatch.setattr(library, "PACKAGE", package)
    assert set(library.shipped()) == {"both", "inside"}  # a stranger's `studies` in site-packages is not ours
    (tmp_path / "pyproject.toml").touch()
    assert library.shipped() == {
        "beside": tmp_path / "studies/beside.toml",
        "both": package / "studies/both.toml",
        "inside": package / "studies/inside.toml",
    }


def test_the_installed_package_finds_its_studies_in_its_own_folder(tmp_path: Path) -> None:
    shutil.copytree(CHECKOUT / "degradation", tmp_path / "degradation", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(CHECKOUT / "studies", tmp_path / "degradation" / "studies")
    code = "from degradation.study import library; print(*library.shipped().values(), sep='\\n')"
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    found = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    files = found.stdout.split()
    assert files == [str(path) for path in sorted((tmp_path / "degradation/studies").glob("*.toml"), key=stem)]


def stem(path: Path) -> str:
    return path.stem


# Reading a file


def test_a_file_becomes_the_study_it_describes() -> None:
    path = written('question = "why?"\ndepths = [8, 14]\n[dataset]\nname = "synthetic"\n[recipe]\nsteps = 30\n')
    expected = StudySpec(question="why?", depths=(8, 14), dataset=Synthetic(), recipe=StudyRecipe(steps=30))
    assert library.read(path) == expected


RECIPE_FIELDS = (
    "optimizer, learning_rate, momentum, beta2, weight_decay, batch, ghost_batches, steps, warmup_steps, "
    "warmup_learning_rate, padding, flip, colour"
)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (
            "[recipe]\nsteps = 9\n# a comment\nstepz = 10",
            5,
            f"recipe.stepz is not a field of recipe; its fields are {RECIPE_FIELDS}; did you mean steps?",
        ),
        (
            "depths = [20, 21]",
            2,
            "depths: depth 21 is not of the CIFAR family 6n+2; the nearest valid depths are 20 and 26",
        ),
        ("recipe.batch = 1", 2, "recipe.batch: expected a number of at least 2, not 1"),
        ("recipe = {batch = 1}", 2, "recipe.batch: expected a number of at least 2, not 1"),
        ("[recipe]\nflip = 'perhaps'", 3, "recipe.flip: expected true or false, not 'perhaps'"),
        (
            "\n[recipe]\nsteps = 10\nwarmup_steps = 11",
            3,
            "recipe: warmup_steps 11 is above steps 10: lower warmup_steps",
        ),
        (
            "[dataset]\nname = 'mnist'",
            2,
            "dataset: expected cifar10 or digits or synthetic or folder as the dataset's name, not 'mnist'",
        ),
        (
            "[dataset]\nname = 'cifar10'\nnoise = 1",
            4,
            "dataset.noise is not a field of dataset; its fields are name, size, validation",
        ),
    ],
)
def test_what_a_file_gets_wrong_is_said_with_its_line(text: str, line: int, message: str) -> None:
    assert refusal(f'question = "q"\n{text}\n') == f"x.toml line {line}: {message}"


def test_all_that_a_file_gets_wrong_is_said_at_once() -> None:
    message = refusal("[dataset]\nnoise = 1\n[recipe]\nsteps = 0\nbatch = 'x'\n")
    assert message == (
        'x.toml line 1: expected the question of the study on the first line: question = "..."; '
        "x.toml line 1: dataset: its key name is missing, which says what data it is: "
        'expected name = "cifar10" or name = "digits" or name = "synthetic" or name = "folder"; '
        "x.toml line 5: recipe.batch: expected a whole number, not 'x'; "
        "x.toml line 4: recipe.steps: expected a number of at least 1, not 0"
    )


def test_a_file_without_its_question_on_the_first_line_is_refused() -> None:
    for text in ("depths = [20]\n", 'seeds = [0]\nquestion = "q"\n'):
        assert refusal(text).startswith("x.toml line 1: expected the question of the study on the first line")


def test_what_is_not_toml_is_said_with_the_line_and_column() -> None:
    message = refusal('question = "q"\ndepths = [20\nseeds 3\n')
    assert message.startswith("x.toml is not TOML: ")
    assert "line 3" in message


def test_a_file_that_is_not_text_is_refused() -> None:
    Path("x.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"cannot read x\.toml: it is not UTF-8 text"):
        library.read("x.toml")


def test_a_missing_file_lists_what_there_is() -> None:
    with pytest.raises(UserError, match=r"no file quickstar\.toml: .* did you mean quickstart\?"):
        library.read("quickstar.toml")


# Resolving


def test_a_target_is_a_file_a_shipped_name_or_a_study_on_disk() -> None:
    written('question = "q"\nseeds = [5]\n')
    on_disk = StudySpec(seeds=(7,))
    StudyFolder("runs", "mine").write_study(on_disk.begun().model_dump(mode="json"))
    assert library.resolve("x.toml").study.seeds == (5,)
    assert library.resolve("x.toml").name == "x"
    assert library.resolve("quickstart").study == library.read(library.shipped()["quickstart"])
    assert library.resolve("mine").study == on_disk.begun()
    assert library.resolve("mine", name="other").name == "other"


def test_without_a_target_the_study_has_the_defaults_and_the_name_of_its_data() -> None:
    bare = library.resolve(None, {"depths": [20, 32, 56, 110]})
    assert (bare.name, bare.study) == ("cifar10", StudySpec(depths=(20, 32, 56, 110)))
    assert library.resolve(None, {"dataset.name": "synthetic"}).name == "synthetic"


def test_options_stand_over_the_file_and_leave_the_rest() -> None:
    found = library.resolve("quickstart", {"seeds": [3, 4], "recipe.steps": 500}).study
    shipped = library.read(library.shipped()["quickstart"])
    assert found.seeds == (3, 4)
    assert found.recipe == shipped.recipe.model_copy(update={"steps": 500})
    assert found.depths == shipped.depths


def test_another_data_set_drops_the_fields_of_the_first_and_the_same_one_keeps_them() -> None:
    written('question = "q"\n[dataset]\nname = "synthetic"\nnoise = 2.5\n')
    assert library.resolve("x.toml", {"dataset.name": "cifar10"}).study.dataset.name == "cifar10"
    assert library.resolve("x.toml", {"dataset.name": "synthetic"}).study.dataset == Synthetic(noise=2.5)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("depths", [21], "depth 21 is not of the CIFAR family 6n+2; the nearest valid depths are 20 and 26"),
        ("depths", [], "at least one value is needed"),
        ("depths", 20, "expected a list in brackets, not 20"),
        ("depths.x", 20, "depths is one value and has no field x"),
        ("seeds", [0, 0], "0 is given twice"),
        ("seeds", [-1], "expected a number of at least 0, not -1"),
        ("networks", ["plan"], "expected plain or residual, not 'plan'; did you mean plain?"),
        (
            "dataset.name",
            "mnist",
            "expected cifar10 or digits or synthetic or folder as the dataset's name, not 'mnist'",
        ),
        ("recipe.steps", 1.5, "expected a whole number, not 1.5"),
        ("recipe.learning_rate", float("inf"), "expected a finite number, not inf"),
        ("recipe.warmup_steps", 300, "warmup_steps 300 is above steps 200: lower warmup_steps"),
        (
            "recipe.warmup_steps",
            "papr",
            "expected a whole number or default, half, tenth or paper, not 'papr'; did you mean paper?",
        ),
        ("recipe", 3, "expected a table of fields, not 3"),
        ("measure.eval_every", 0, "expected a number of at least 1, not 0"),
    ],
)
def test_an_impossible_option_is_named_with_what_was_expected(field: str, value: object, message: str) -> None:
    with pytest.raises(UserError) as caught:
        library.resolve("quickstart", {field: value}, option_by_field={field: "--option"})
    assert str(caught.value) == f"--option: {message}"


def test_a_rule_between_two_options_blames_both() -> None:
    options = {"recipe.steps": 100, "recipe.momentum": 0.5, "recipe.warmup_steps": 200}
    option_by_field = {"recipe.steps": "--steps", "recipe.momentum": "--set", "recipe.warmup_steps": "--warmup-steps"}
    with pytest.raises(
        UserError, match=r"^--steps, --warmup-steps: warmup_steps 200 is above steps 100: lower warmup_steps$"
    ):
        library.resolve(None, options, option_by_field=option_by_field)


def test_an_unknown_name_lists_what_ships_and_what_is_on_disk() -> None:
    StudyFolder("runs", "mine").write_study(StudySpec().begun().model_dump(mode="json"))
    with pytest.raises(UserError) as caught:
        library.resolve("quickstat")
    assert str(caught.value) == (
        f"no study 'quickstat': the shipped ones are {', '.join(SHIPPED)}; under runs are mine; "
        "did you mean quickstart?"
    )


# On disk


def test_a_study_on_disk_is_located_by_name_or_path() -> None:
    StudyFolder("runs", "mine").write_study(StudySpec().begun().model_dump(mode="json"))
    assert library.locate("mine").path == Path("runs/mine")
    assert library.locate("runs/mine", root="elsewhere").path == Path("runs/mine")
    with pytest.raises(UserError, match=r"no study 'mime' on disk: under runs are mine; did you mean mine\?"):
        library.locate("mime")


def test_a_study_on_disk_that_is_none_is_damage_and_named() -> None:
    folder = StudyFolder("runs", "mine")
    folder.write_study(StudySpec().begun().model_dump(mode="json") | {"depths": [21]})
    with pytest.raises(DamagedError, match=r"^runs/mine/study\.json: depths: depth 21 is not"):
        library.stored(folder)
