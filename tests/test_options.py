"""Command-line tokens become values: several after one option, settings, times, and the machine's."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from degradation.cli.options import FIELDS, MachineOptions, StudyOptions
from degradation.cli.parser import MULTI_VALUE, expand
from degradation.cli.validators import seconds
from degradation.errors import UserError
from degradation.runtime.environment import Options
from degradation.spec import StudySpec, flatten

VALUES = {
    "--depths": st.integers(-200, 200).map(str),
    "--seeds": st.integers(0, 2**32).map(str),
    "--networks": st.sampled_from(["plain", "residual"]),
    "--shortcuts": st.sampled_from(["A", "B", "C"]),
    "--probes": st.sampled_from(["gradients", "responses", "branches", "none"]),
    "--format": st.sampled_from(["png", "svg", "pdf"]),
}
GROUPS = st.sampled_from(sorted(VALUES)).flatmap(
    lambda option: st.tuples(st.just(option), st.lists(VALUES[option], min_size=1, max_size=4))
)
OTHERS = st.sampled_from([["quickstart"], ["studies/x.toml"], ["--yes"], ["--steps", "20"], ["--name=a"]])


@given(st.lists(GROUPS | OTHERS.map(lambda tokens: (None, tokens)), max_size=6), st.booleans())
def test_values_in_a_row_mean_the_option_repeated(items: list[tuple[str | None, list[str]]], equals: bool) -> None:
    spaced: list[str] = []
    repeated: list[str] = []
    for option, values in items:
        if option is None:
            spaced += values
            repeated += values
        else:
            spaced += [f"{option}={values[0]}", *values[1:]] if equals else [option, *values]
            repeated += [f"{option}={value}" for value in values]
    assert expand(spaced) == repeated
    assert expand(repeated) == repeated


@pytest.mark.slow
@given(st.lists(st.text()))
def test_tokens_without_a_multi_value_option_stay_as_they_are(tokens: list[str]) -> None:
    kept = [token for token in tokens if token.partition("=")[0] not in MULTI_VALUE]
    assert expand(kept) == kept


@pytest.mark.parametrize(
    ("line", "expanded"),
    [
        ("--depths 20 32 quickstart", "--depths=20 --depths=32 quickstart"),
        ("--depths=20 32", "--depths=20 --depths=32"),
        ("--seeds 3 -4 paper", "--seeds=3 --seeds=-4 paper"),
        ("--networks plan residual", "--networks=plan --networks=residual"),
        ("--depths --seeds 0", "--depths --seeds=0"),
        ("--depths", "--depths"),
        ("--probes none x", "--probes=none x"),
        ("--depths 20 -- 32", "--depths=20 -- 32"),
        ("-- --depths 20 32", "-- --depths 20 32"),
    ],
)
def test_only_what_can_be_a_value_is_taken(line: str, expanded: str) -> None:
    assert expand(line.split()) == expanded.split()


def test_every_option_of_a_study_sets_a_field_that_there_is() -> None:
    assert set(FIELDS.values()) <= set(flatten(StudySpec()))


def test_options_become_dotted_fields_and_say_who_set_them() -> None:
    asked = StudyOptions(depths=["8"], warmup_steps="12", probes=["none"], set=["recipe.momentum=0.5"])
    values, said = asked.fields()
    assert values == {
        "depths": [8],
        "recipe.warmup_steps": 12,
        "measure.probes": [],
        "recipe.momentum": 0.5,
    }
    assert said["recipe.warmup_steps"] == "--warmup-steps"
    assert said["recipe.momentum"] == "--set recipe.momentum"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("true", True),
        ("[1, 2]", [1, 2]),
        ("paper", "paper"),
        ('"a=b"', "a=b"),
        ("a=b", "a=b"),
    ],
)
def test_a_setting_is_a_toml_value_or_a_bare_word(text: str, value: object) -> None:
    assert StudyOptions(set=[f"recipe.x={text}"]).fields()[0] == {"recipe.x": value}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (StudyOptions(set=["recipe.steps"]), "--set: expected KEY=VALUE"),
        (StudyOptions(set=["=3"]), "--set: expected KEY=VALUE"),
        (
            StudyOptions(steps="3", set=["recipe.steps=4"]),
            "--set recipe.steps: .* given twice, here and by --steps",
        ),
        (StudyOptions(set=["a=1", "a=2"]), "--set a: a is given twice"),
        (StudyOptions(probes=["none", "gradients"]), "--probes: 'none' cannot be combined with 'gradients'"),
    ],
)
def test_what_contradicts_itself_is_refused(asked: StudyOptions, message: str) -> None:
    with pytest.raises(UserError, match=message):
        asked.fields()


@pytest.mark.parametrize(("text", "value"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400)])
def test_a_budget_is_hours_minutes_and_seconds(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "30", "0m", "m", "-3m", "1.5h", "3d", "30m1h"])
def test_what_is_no_time_is_no_budget(text: str) -> None:
    with pytest.raises(UserError, match="--budget: expected a time such as 90s"):
        seconds(text)


def test_machine_options_reach_the_runner() -> None:
    machine = MachineOptions(device="cpu", threads="2", jobs="3", deterministic=True, data_dir=Path("d"))
    expected = Options(device="cpu", threads=2, jobs=3, deterministic=True, data_dir=Path("d"))
    assert machine.checked() == expected
    assert MachineOptions().checked() == Options()


@pytest.mark.parametrize(
    ("machine", "message"),
    [
        (
            MachineOptions(device="cudda"),
            "--device: expected auto, cpu, cuda, mps, not 'cudda'; did you mean cuda?",
        ),
        (MachineOptions(threads="0"), "--threads: expected a whole number of at least 1, not '0'"),
        (MachineOptions(jobs="many"), "--jobs: expected auto or a whole number of at least 1, not 'many'"),
        (MachineOptions(jobs="0"), "--jobs: expected auto or a whole number of at least 1, not '0'"),
    ],
)
def test_an_impossible_machine_option_is_named(machine: MachineOptions, message: str) -> None:
    with pytest.raises(UserError) as caught:
        machine.checked()
    assert str(caught.value) == message
