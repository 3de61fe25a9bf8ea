"""Arms: a study repeated with something changed, from its file to its figures."""

from pathlib import Path
from typing import get_args

import pandas as pd
import pytest
from pydantic import ValidationError
from safetensors.torch import load_file

from degradation.errors import UserError
from degradation.figures import FIGURES, draw
from degradation.figures.curves import curves
from degradation.launchers import runner
from degradation.runtime.environment import Options
from degradation.runtime.progress import silent
from degradation.spec import Measure, Order, StudySpec, flatten, grid
from degradation.store import EXPERIMENTS, StudyFolder
from degradation.study import library
from degradation.study.results import Results, load
from degradation.study.status import final_errors, run_statuses
from tests.calling import SHIPPED, Command, command, trained  # noqa: F401
from tests.made import study_spec
from tests.made_frames import make_study

ADAM = {"recipe.optimizer": "adam", "recipe.learning_rate": 0.001}
OPTIMIZERS = {"sgd": {}, "adam": ADAM}
LONGER = {"once": {}, "thrice": {"recipe.steps": 480}}


def study(arms: object, **fields: object) -> StudySpec:
    return StudySpec.model_validate({"depths": (8, 14), "arms": arms} | fields)


# the plan


def test_every_arm_has_the_whole_grid_and_only_its_own_fields_differ():
    by_arm = {name: [] for name in OPTIMIZERS}
    for run, arm in grid.arms(study(OPTIMIZERS, seeds=(0, 1))).items():
        by_arm[arm].append(run)
    assert [len(runs) for runs in by_arm.values()] == [8, 8]
    for one, other in zip(by_arm["sgd"], by_arm["adam"], strict=True):
        changed = {name for name, value in flatten(one).items() if flatten(other)[name] != value}
        assert changed == {"recipe.optimizer", "recipe.learning_rate"}


def test_matched_pairs_are_made_within_an_arm():
    pairs = grid.pairs(grid.runs(study(OPTIMIZERS | {"bare": {"norm": "none"}})))
    assert len(pairs) == 6
    for pair in pairs:
        plain, residual = flatten(pair.plain), flatten(pair.residual)
        assert {name for name in plain if plain[name] != residual[name]} == {"network", "shortcut"}


def test_an_arm_that_changes_nothing_has_the_runs_of_the_study_without_arms():
    assert set(grid.runs(study({}))) < set(grid.runs(study({"same": {}, "wide": {"width": 2}})))


def test_an_arm_turns_its_own_warmup_rule_into_a_number():
    arms = {"paper": {"recipe.warmup_steps": "paper"}, "none": {"recipe.warmup_steps": 0}}
    runs = grid.arms(study(arms, depths=(110,), recipe={"steps": 7000}))
    assert {(arm, run.recipe.warmup_steps) for run, arm in runs.items()} == {("paper", 400), ("none", 0)}


def test_dotted_and_nested_fields_of_an_arm_mean_the_same():
    assert study({"a": ADAM}) == study({"a": {"recipe": {"optimizer": "adam", "learning_rate": 0.001}}})


def test_a_study_with_arms_is_read_back_as_itself():
    made = study(OPTIMIZERS)
    assert StudySpec.model_validate(made.model_dump(mode="json")) == made


# what is refused


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ({"a": {"recipe.learning_rate": -1}}, "greater than 0"),
        ({"a": {"depths": (8,)}}, "arm a: depths belongs to the whole study"),
        ({"a": {"precision": "bf16"}}, "belongs to the whole study"),
        ({"a": {"arms": {}}}, "belongs to the whole study"),
        ({"a": {"norm": "layer"}}, "'batch' or 'none'"),
        ({"a": {"norms": "none"}}, "Extra inputs"),
        ({"a": {"recipe.beta2": 0.9}}, "beta2 0.9 is Adam's"),
        ({"a": 3}, "dictionary"),
        (3, "dictionary"),
        ({"": {}}, "expected a name"),
        ({"a\nb": {}}, "expected a name"),
        ({"a": {}, "b": {"norm": "batch"}}, "arms a and b are the same run at depth 8"),
        ({"a": {"recipe.warmup_steps": 0}, "b": {"recipe.warmup_steps": "paper"}}, "the same run at depth 8"),
    ],
)
def test_an_impossible_arm_is_refused(arms, message):
    with pytest.raises(ValidationError, match=message):
        study(arms)


FIELDS_OF_AN_ARM = "recipe, norm, width, initialization, block"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("[arms.a]\nrecipe.learning_rate = -1", 3, "arms.a.recipe.learning_rate: expected a number above 0, not -1"),
        ('[arms.a]\n"recipe.steps" = "x"', 3, "arms.a.recipe.steps: expected a whole number, not 'x'"),
        ("[arms.a.recipe]\nstep = 1", 3, "arms.a.recipe.step is not a field of recipe; its fields are optimizer, "),
        ('[arms.a]\nnorm = "layer"', 3, "arms.a.norm: expected batch or none, not 'layer'"),
        ("[arms.a]\nwidht = 2", 3,
         f"arms.a.widht is not a field of an arm; its fields are {FIELDS_OF_AN_ARM}; did you mean width?"),
        ("arms = 3", 2, "arms: expected a table of fields, not 3"),
    ],
)  # fmt: skip
def test_what_a_file_gets_wrong_in_an_arm_is_said_with_its_line(tmp_path, monkeypatch, text, line, message):
    monkeypatch.chdir(tmp_path)
    Path("x.toml").write_text(f'question = "q"\n{text}\n')
    with pytest.raises(UserError) as refused:
        library.read("x.toml")
    assert str(refused.value).startswith(f"x.toml line {line}: {message}")
    assert "\n" not in str(refused.value)


def test_an_option_that_an_arm_overrules_is_refused_unless_that_arm_is_set_too():
    base = study(LONGER)
    with pytest.raises(UserError, match=r"^--steps: arm thrice has recipe.steps = 480 itself; --set arms.thrice"):
        library.override(base, {"recipe.steps": 100}, {"recipe.steps": "--steps"})
    both = {"recipe.steps": 100, "arms.thrice.recipe.steps": 300}
    changed = library.override(base, both, {field: field for field in both})
    assert {run.recipe.steps for run in grid.runs(changed)} == {100, 300}


@pytest.mark.parametrize(
    ("arms", "field", "message"),
    [
        (OPTIMIZERS, "arms.adm.recipe.beta2", "there is no arm adm; the arms are sgd, adam; did you mean adam?"),
        ({}, "arms.adam.recipe.beta2", "there is no arm adam; the study has none"),
    ],
)
def test_an_option_for_an_arm_that_there_is_not_begins_none(arms, field, message):
    with pytest.raises(UserError) as refused:
        library.override(study(arms), {field: 0.01}, {field: "--set"})
    assert str(refused.value) == f"--set: {message}"


# the command


def test_vary_makes_an_arm_for_each_combination_of_values(command: Command):  # noqa: F811
    varied = ["--vary", "recipe.learning_rate=0.05,0.1", "--vary", "norm=batch,none"]
    said = command("plan", "--depths", "8", *varied, "--json")
    assert list(said.json["study"]["arms"]) == [
        f"learning rate {rate}, norm {norm}" for rate in (0.05, 0.1) for norm in ("batch", "none")
    ]
    assert len(said.json["runs"]) == 8
    assert {run["arm"] for run in said.json["runs"]} == set(said.json["study"]["arms"])


def test_vary_replaces_no_arms_of_a_file(command: Command):  # noqa: F811
    said = command("plan", "optimizer", "--vary", "recipe.batch=64,128")
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith("degradation: --vary: optimizer has the arms sgd, adam, adam-fast of its own")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("norm", "--vary: expected KEY=VALUE such as norm=batch,none, not 'norm'"),
        ("norm=batch,batch", "--vary norm: batch is given twice for norm"),
        ("recipe.momentum=1,0.9", "--vary: arm momentum 1: recipe.momentum: expected a number below 1, not 1"),
        ("seeds=0,1", f"--vary: arm seeds 0: seeds belongs to the whole study; an arm changes {FIELDS_OF_AN_ARM}"),
    ],
)
def test_a_wrong_vary_is_one_line_that_names_it(command: Command, value, message):  # noqa: F811
    said = command("plan", "--depths", "8", "--vary", value)
    assert (said.status, said.err) == (2, f"degradation: {message}\n")


def test_plan_run_and_status_name_the_arms(command: Command, trained):  # noqa: F811
    arguments = ("--dataset", "synthetic", "--depths", "8", "--steps", "50", "--vary", "norm=batch,none")
    planned = command("plan", *arguments).out
    assert "arm norm none: norm none" in planned
    assert "75,290" in planned  # gamma and beta
    assert "75,050" in planned  # a bias
    told = command("run", *arguments, "--yes", "--no-figures").out.split("final clean training error")[1]
    assert (told.count("norm batch"), told.count("norm none: not the paper's")) == (1, 1)
    assert command("status", "synthetic").out.count("norm none") == 4  # two runs; the label, which says it twice
    assert {run["arm"] for run in command("status", "synthetic", "--json").json["runs"]} == {"norm batch", "norm none"}


def test_a_budget_is_refused_where_an_arm_gives_its_own_steps(command: Command, trained):  # noqa: F811
    said = command("run", "more-steps", "--budget", "1h", "--yes")
    assert (said.status, "arm thrice gives its own" in said.err) == (2, True)


# on disk


def test_arms_may_be_added_to_a_study_on_disk_and_none_changes(tmp_path):
    folder = make_study(tmp_path, depths=(8,), seeds=(0,), steps=160, arms=OPTIMIZERS)
    kept = library.stored(folder)
    grown = runner.grow(folder, kept.model_copy(update={"arms": {"bare": {"norm": "none"}}}))
    assert list(grown.arms) == ["sgd", "adam", "bare"]
    assert {run.norm for run in runner.pending(folder, grown)} == {"none"}
    faster = kept.model_copy(update={"arms": {"adam": {"recipe": {"optimizer": "adam", "learning_rate": 0.1}}}})
    with pytest.raises(UserError, match=r"has arms.adam.recipe.learning_rate = 0.001, asked was 0.1"):
        runner.grow(folder, faster)
    with pytest.raises(UserError, match=r"has arms = some, asked was none"):
        runner.grow(folder, kept.model_copy(update={"arms": {}}))


def test_a_field_that_an_arm_on_disk_leaves_out_is_there_with_its_value(tmp_path):
    folder = StudyFolder(tmp_path, "gates")
    gated = {"block.gate": "exclusive"}
    folder.write_study(study({"gated": gated, "plain": {}}).begun().model_dump(mode="json"))
    with pytest.raises(UserError, match=r"has arms.gated.block.gate_bias = 0.0, asked was -6.0: a study keeps"):
        runner.grow(folder, study({"gated": gated | {"block.gate_bias": -6}}))
    with pytest.raises(UserError, match=r"has arms.gated.block.gate = exclusive, asked was none: a study keeps"):
        runner.grow(folder, study({"gated": {}}))
    grown = runner.grow(folder, study({"new": {"norm": "none"}, "gated": gated | {"block.gate_bias": 0}}))
    assert (list(grown.arms), grown.arms["gated"]) == (["gated", "plain", "new"], {"block": {"gate": "exclusive"}})


def test_growth_that_makes_two_arms_one_run_is_refused(tmp_path):
    arms = {"none": {"recipe.warmup_steps": 0}, "paper": {"recipe.warmup_steps": "paper"}}
    folder = make_study(tmp_path, depths=(110,), seeds=(0,), networks=("plain",), arms=arms)
    with pytest.raises(UserError, match=r"cannot grow so: arms none and paper are the same run at depth 8"):
        runner.grow(folder, library.stored(folder).model_copy(update={"depths": (8,)}))


def test_final_errors_are_means_within_an_arm(tmp_path):
    folder = make_study(tmp_path, depths=(8,), seeds=(0, 1), networks=("plain",), steps=160, arms=OPTIMIZERS)
    found = final_errors(folder, library.stored(folder))
    assert [(error.arm, error.seeds) for error in found if error.statistics == "batch"] == [("sgd", 2), ("adam", 2)]
    assert {run_status.arm for run_status in run_statuses(folder, library.stored(folder))} == {"sgd", "adam"}


# results and figures


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Two arms of 160 and 480 steps; plain 14 of seed 1 diverged in both."""
    lost = {("plain", 14, 1)}
    root = tmp_path_factory.mktemp("runs")
    return load(make_study(root, depths=(8, 14), seeds=(0, 1), steps=160, arms=LONGER, diverged=lost).path)


@pytest.mark.slow
def test_every_frame_carries_the_arm_and_the_fields_that_vary(longer: Results):
    assert longer.axes == ("arm", "shortcut", "recipe.steps")
    for name in ("curves", "gradients", "runs"):
        steps = longer[name].groupby("arm")["recipe.steps"].unique()
        assert {arm: list(found) for arm, found in steps.items()} == {"once": [160], "thrice": [480]}


def test_a_warmup_that_the_arms_vary_is_an_axis(tmp_path):
    arms = {"none": {"recipe.warmup_steps": 0}, "some": {"recipe.warmup_steps": 9}}
    folder = make_study(tmp_path, depths=(8,), seeds=(0,), networks=("plain",), steps=160, arms=arms)
    assert load(folder.path).axes == ("arm", "recipe.warmup_steps")


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_no_figure_mixes_two_arms(longer: Results, name: str):
    _, data = FIGURES[name](longer)
    assert set(data["arm"]) == {"once", "thrice"}
    if "seeds" in data:
        assert data["seeds"].max() == 2  # not the four of both arms
    if "step" in data and name not in EXPERIMENTS:  # the steps of an experiment are its own
        assert dict(data.groupby("arm", observed=True)["step"].max()) == {"once": 160, "thrice": 480}


def test_each_arm_has_panels_with_its_own_steps_and_milestones(longer: Results):
    figure, _ = curves(longer)
    panels = {axes.get_title(): axes for axes in figure.axes}
    assert list(panels) == [
        f"{arm}: {kind}" for arm in ("once", "thrice") for kind in ("plain", "residual, shortcut A")
    ]
    assert panels["once: plain"].get_xlim()[1] == 160
    assert panels["thrice: plain"].get_xlim()[1] == 480
    marked = [line.get_xdata()[0] for line in panels["thrice: plain"].lines if list(line.get_ydata()) == [0, 1]]
    assert marked == [240, 360]


def test_the_steps_of_an_arm_stand_above_its_own_panels(longer: Results):
    figure, _ = FIGURES["gradient-flow"](longer)
    titles = [axes.get_title() for axes in figure.axes]
    assert (titles[0], titles[3], titles[11]) == ("step 0", "step 160", "step 480")
    assert set(titles[4:8]) == {""}


def test_useless_running_statistics_are_named_in_the_arm_of_fewer_steps_too(tmp_path):
    probes = {"probes": ()}
    made = make_study(tmp_path, depths=(110,), networks=("plain",), seeds=(0,), steps=160, arms=LONGER, measure=probes)
    texts = " ".join(text.get_text() for text in curves(load(made.path))[0].texts)
    assert texts.count("plain-110: last training error") == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_says_what_its_arms_change(longer: Results, name: str):
    texts = " ".join(text.get_text() for text in FIGURES[name](longer)[0].texts)
    assert "Arms: once: as the study; thrice: steps 480." in texts


@pytest.mark.slow
def test_the_csv_of_a_study_with_arms_names_them(longer: Results, tmp_path: Path):
    (_, path) = draw(longer, ("depth",), ("png",), tmp_path).paths
    assert set(pd.read_csv(path)["arm"]) == {"once", "thrice"}


def test_responses_are_explained_for_the_norms_of_the_study(tmp_path):
    norms = {"batch": {"norm": "batch"}, "none": {"norm": "none"}}
    results = load(make_study(tmp_path, depths=(8,), seeds=(0,), steps=160, arms=norms).path)
    texts = " ".join(text.get_text() for text in FIGURES["responses"](results)[0].texts)
    assert "gamma and beta" in texts
    assert "Without batch norm" in texts


@pytest.mark.slow
def test_heat_maps_of_arms_share_one_colour_scale_unless_their_norms_differ(tmp_path, longer: Results):
    def scales(results: Results) -> list[set[tuple[float, float]]]:
        figure, _ = FIGURES["responses-heatmap"](results)
        found = [(axes.get_title().split("\n")[0], axes.images[0].get_clim()) for axes in figure.axes if axes.images]
        return [{scale for arm, scale in found if arm == name} for name in results.study.arms]

    once, thrice = scales(longer)
    assert once == thrice
    norms = {"batch": {}, "none": {"norm": "none"}}
    made = make_study(tmp_path, depths=(8, 14), seeds=(0,), steps=160, arms=norms)
    batch, none = scales(load(made.path))
    assert len(batch) == len(none) == 1
    assert max(none)[1] < min(batch)[0]


VARIANTS = {"identity": {}, "full": {"block.order": "full"}, "gated": {"block.gate": "exclusive"}}


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> Results:
    root = tmp_path_factory.mktemp("variants")
    return load(make_study(root, depths=(8, 14), seeds=(0,), steps=160, arms=VARIANTS).path)


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_draws_an_arm_that_has_residual_runs_alone(variants: Results, name: str):
    _, data = FIGURES[name](variants)
    kinds = {(arm, network) for arm, network in zip(data["arm"], data["network"], strict=True)}
    assert ("gated", "residual") in kinds
    assert ("gated", "plain") not in kinds


@pytest.mark.slow
def test_figures_say_how_block_variants_are_read(variants: Results, longer: Results):
    def words(results: Results) -> tuple[bool, bool]:
        both = (" ".join(text.get_text() for text in FIGURES[n](results)[0].texts) for n in ("responses", "branches"))
        response, branch = both
        return "measured after the convolution" in " ".join(response.split()), "after any transform of either" in branch

    assert words(variants) == (True, True)
    assert words(longer) == (False, False)


def test_heat_maps_have_one_scale_an_arm_where_one_has_convolved_responses(variants: Results, longer: Results):
    def bars(results: Results) -> int:
        figure, _ = FIGURES["responses-heatmap"](results)
        return len([axes for axes in figure.axes if axes.get_label() == "<colorbar>"])

    assert (bars(variants), bars(longer)) == (3, 1)


def test_labels_that_hold_for_some_arms_name_them():
    assert study(OPTIMIZERS).labels == ("adam: not the paper's recipe: optimizer adam, learning_rate 0.001",)
    assert study({"a": {"norm": "none"}, "b": {"norm": "none", "width": 2}}, recipe={"steps": 9}).labels == (
        "9 steps: not the paper's schedule",
        "a: not the paper's networks: norm none",
        "b: not the paper's networks: norm none, width 2",
    )


# the studies that ship


WITH_ARMS = ("batch-norm", "initialization", "learning-rate", "more-steps", "optimizer", "warmup", "width")


@pytest.mark.parametrize("name", WITH_ARMS)
def test_a_study_of_one_more_question_ships_with_arms_and_can_be_planned(command: Command, name):  # noqa: F811
    said = command("plan", name, "--json")
    assert said.status == 0
    arms = said.json["study"]["arms"]
    assert len(arms) >= 2
    assert (len(said.json["runs"]), len(said.json["pairs"])) == (len(arms) * 20, len(arms) * 10)


@pytest.mark.parametrize(
    ("name", "runs", "pairs"),
    [
        ("shortcut-variants", 90, 10),
        ("convolution-shortcut", 30, 20),
        ("activation-order", 100, 50),
        ("branch-start", 80, 20),
    ],
)
def test_a_study_of_block_variants_pairs_what_has_a_plain_match(command: Command, name, runs, pairs):  # noqa: F811
    said = command("plan", name, "--json")
    assert (said.status, len(said.json["runs"]), len(said.json["pairs"])) == (0, runs, pairs)


def test_the_plan_says_once_why_a_variant_of_the_shortcut_has_no_match(command: Command):  # noqa: F811
    said = " ".join(command("plan", "shortcut-variants").out.split())
    arms = "half, half-shortcut, exclusive-0, exclusive-6, shortcut-only-0, shortcut-only-6, dropout"
    fields = "branch_factor, shortcut_factor, gate, gate_bias, dropout"
    assert f"no match in {arms}: there are no plain networks with {fields}, which belong to a shortcut" in said
    gated = " ".join(command("plan", "--depths", "8", "--set", "block.gate=exclusive").out.split())
    assert "1 run without a match no match: there are no plain networks with gate, which" in gated
    asked_without = ["--depths", "8", "--networks", "residual", "--set", "block.gate=exclusive"]
    for without in (["activation-order"], asked_without):
        assert "no match" not in command("plan", *without).out


@pytest.mark.slow
def test_the_plan_has_a_line_for_each_row_in_80_columns_whatever_ships(command: Command):  # noqa: F811
    for name in set(SHIPPED) - {"imagenet"}:  # which needs a folder of images
        said = command("plan", name)
        lines = said.out.splitlines()
        assert max(map(len, lines)) <= 80
        rows = [line for line in lines if line.endswith(" pending ") and ("plain" in line or "residual" in line)]
        below = lines[lines.index(rows[0]) :]
        assert below[: len(rows)] == rows, name


# plain networks, whose order of operations is one


def test_the_plan_says_which_plain_runs_are_trained_again(command: Command):  # noqa: F811
    said = " ".join(command("plan", "activation-order").out.split())
    assert "40 plain runs of these train the network of another arm again, with identical results" in said
    again = grid.repeated(grid.runs(library.read(library.shipped()["activation-order"])))
    assert {(run.network, run.block.order == "original") for run in again} == {("plain", False)}
    for other in ("quickstart", "shortcut-variants", "batch-norm"):
        assert "identical results" not in command("plan", other).out
    arms = {"batch": {}, "none": {"norm": "none", "block.order": "relu-before-addition"}}
    assert grid.repeated(grid.runs(study(arms))) == ()


@pytest.mark.slow
def test_plain_networks_of_every_order_end_with_the_same_bits_and_residual_ones_do_not(tmp_path):
    arms = {order: {"block.order": order} for order in get_args(Order)}
    made = study_spec(arms=arms, recipe={"steps": 2}, measure=Measure(probes=()))
    results = runner.run(made, name="orders", root=tmp_path)
    ends: dict[str, set[bytes]] = {"plain": set(), "residual": set()}
    for run_id in results.run_ids:
        weights = load_file(tmp_path / f"orders/{run_id}/final.safetensors")
        ends[results.specs[run_id].network].add(
            b"".join(weights[f"layer{n}.0.conv1.weight"].numpy().tobytes() for n in (1, 2, 3))
        )
    assert (len(ends["plain"]), len(ends["residual"])) == (1, len(arms))
    losses = results["curves"].groupby(["network", "run_id"], observed=True)["loss"].agg(tuple)
    assert (losses["plain"].nunique(), losses["residual"].nunique()) == (1, len(arms))
    assert len(grid.repeated(grid.runs(made))) == len(arms) - 1


# trained


@pytest.mark.slow
def test_arms_of_every_kind_are_trained_and_their_pairs_match(tmp_path):
    arms = {"batch": {}, "none": {"norm": "none"}, "wide": {"width": 2}, "dirac": {"initialization": "dirac"}}
    made = study_spec(arms=arms, recipe={"steps": 4})
    results = runner.run(made, name="arms", root=tmp_path)
    runs = results["runs"].set_index("run_id")
    for pair in grid.pairs(grid.runs(made)):
        assert runs.loc[pair.plain.run_id, "weight_hash"] == runs.loc[pair.residual.run_id, "weight_hash"]
        assert runs.loc[pair.plain.run_id, "parameters"] == grid.parameters_of(pair.plain)
    assert runs["weight_hash"].nunique() == 4
    assert set(runs["status"]) == {"finished"}
    for name in ("responses", "branches"):
        assert results[name].notna().all(axis=None), name
    again = runner.execute_study(StudyFolder(tmp_path, "arms"), made, Options(jobs=1), silent)
    assert len(again.finished) == 8
