"""The figures, read from the lines, images and texts that they draw, against the frames they were given."""

import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from degradation.errors import UserError
from degradation.figures import FIGURES, FORMATS, OF_EXPERIMENT, draw
from degradation.figures.curves import curves, top
from degradation.figures.depth import depth, readable
from degradation.figures.heatmap import BLANK
from degradation.figures.recorded import recorded
from degradation.figures.responses import responses
from degradation.figures.style import COLOURS, shade, spread_positions
from degradation.spec import Measure, RunSpec, Synthetic
from degradation.study.results import Results, load
from tests import made_frames
from tests.made_frames import STEP_DIVERGED, make_study

Make = Callable[..., Results]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Plain and residual networks of depths 20 and 44, three seeds, 640 steps."""
    return load(make_study(tmp_path_factory.mktemp("runs")).path)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make a small study; fields as in ``make_study``."""

    def study(**fields: object) -> Results:
        small = {"depths": (8, 14), "seeds": (0,), "steps": 160}
        return load(make_study(tmp_path, **(small | fields)).path)

    return study


@pytest.fixture(scope="module", params=FIGURES)
def every(request: pytest.FixtureRequest, made: Results) -> tuple[str, Figure, pd.DataFrame]:
    """Every figure of the made study: its name, the figure, its data."""
    return request.param, *FIGURES[request.param](made)


def panels(figure: Figure) -> dict[str, Axes]:
    return {axes.get_title() or axes.get_title(loc="left"): axes for axes in figure.axes}


def line(axes: Axes, label: str) -> Line2D:
    (found,) = [line for line in axes.lines if line.get_label() == label]
    return found


def words(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.findobj(Text))


def last(frame: pd.DataFrame, **wanted: object) -> pd.DataFrame:
    for column, value in wanted.items():
        frame = frame[frame[column] == value]
    return frame[frame["step"] == frame["step"].max()]


def networks_of(figure: Figure) -> Iterator[tuple[str, Line2D]]:
    """Every drawn line that is named after a network of depth 20 or 44."""
    for axes in figure.axes:
        for drawn in axes.lines:
            name = str(drawn.get_label()).split(" ")[0]
            if name.endswith(("-20", "-44")):
                yield name, drawn


# curves


@pytest.mark.slow
def test_the_last_test_error_of_plain_44_is_the_mean_over_seeds_with_running_statistics(
    made: Results,
) -> None:
    figure, _ = curves(made)
    rows = last(made["curves"], network="plain", depth=44, split="test", statistics="running")
    assert len(rows) == 3
    assert line(panels(figure)["plain"], "plain-44 test").get_ydata()[-1] == pytest.approx(rows["error"].mean())


def test_training_error_is_dashed_and_test_error_is_bold(made: Results) -> None:
    axes = panels(curves(made)[0])["plain"]
    train, test = line(axes, "plain-20 train"), line(axes, "plain-20 test")
    assert train.is_dashed()
    assert not test.is_dashed()
    assert test.get_linewidth() > train.get_linewidth()


def test_plain_and_residual_share_the_error_axis(made: Results) -> None:
    axes = panels(curves(made)[0])
    assert axes["plain"].get_ylim() == axes["residual, shortcut A"].get_ylim()
    assert axes["plain"].get_ylabel() == "error (%)"
    assert axes["plain"].yaxis.get_major_formatter()(0.125, 0) == "12.5"


def test_the_milestones_of_the_learning_rate_are_marked(made: Results) -> None:
    axes = panels(curves(made)[0])["plain"]
    vertical = [drawn.get_xdata()[0] for drawn in axes.lines if list(drawn.get_ydata()) == [0, 1]]
    assert vertical == [320, 480]


def test_the_band_reaches_from_the_lowest_to_the_highest_seed(made: Results) -> None:
    _, data = curves(made)
    rows = last(made["curves"], network="plain", depth=20, split="train", statistics="batch")["error"]
    point = last(data, network="plain", depth=20, split="train", statistics="batch").iloc[0]
    assert (point["low"], point["high"], point["seeds"]) == (rows.min(), rows.max(), 3)


@pytest.mark.slow
def test_useless_running_statistics_are_named_below_the_curves(make: Make) -> None:
    figure, _ = curves(make(depths=(8, 110), measure=Measure(probes=())))
    assert "plain-110: last training error" in words(figure)
    assert "plain-8: last" not in words(figure)


def test_the_error_axis_holds_every_error_of_the_last_step(made: Results, make: Make) -> None:
    for results in (made, make(depths=(8, 110), measure=Measure(probes=()))):
        _, data = curves(results)
        assert top(data) > last(data)["high"].max()


@pytest.mark.slow
def test_a_diverged_run_ends_in_a_cross_and_says_at_which_step(make: Make) -> None:
    results = make(seeds=(0, 1), diverged={("plain", 14, 1)})
    figure, data = curves(results)
    (lost,) = data.loc[data["status"] == "diverged", "run"].unique()
    assert lost.startswith("plain-14-s1")
    rows = results["curves"]
    (cross,) = [drawn for drawn in panels(figure)["plain"].lines if drawn.get_marker() == "x"]
    assert list(cross.get_xdata()) == [rows.loc[rows["run_id"] == lost, "step"].max()]
    assert f"diverged at step {STEP_DIVERGED}" in words(figure)


@pytest.mark.slow
def test_a_diverged_seed_enters_no_mean(make: Make) -> None:
    _, data = curves(make(seeds=(0, 1), diverged={("plain", 14, 1)}))
    finished = data[(data["network"] == "plain") & (data["depth"] == 14) & (data["status"] == "finished")]
    assert set(finished["seeds"]) == {1}


@pytest.mark.slow
def test_each_shortcut_option_has_its_panel(make: Make) -> None:
    figure, _ = curves(make(shortcuts=("A", "B", "C")))
    assert {"plain", *(f"residual, shortcut {option}" for option in "ABC")} <= set(panels(figure))


# depth


def test_every_seed_is_a_point_and_the_line_their_mean_with_batch_statistics(made: Results) -> None:
    axes = panels(FIGURES["depth"](made)[0])["Training error (batch statistics)"]
    rows = last(made["curves"], network="plain", split="train", statistics="batch")
    means = rows.groupby("depth")["error"].mean()
    assert list(line(axes, "plain").get_xdata()) == [20, 44]
    assert list(line(axes, "plain").get_ydata()) == pytest.approx(list(means))
    points = next(drawn for drawn in axes.lines if drawn.get_label() == "seeds")
    assert sorted(points.get_ydata()) == pytest.approx(sorted(rows["error"]))


def test_the_test_error_against_depth_has_running_statistics(made: Results) -> None:
    axes = panels(FIGURES["depth"](made)[0])["Test error (running statistics)"]
    rows = last(made["curves"], network="residual", depth=44, split="test", statistics="running")
    assert line(axes, "residual, shortcut A").get_ydata()[-1] == pytest.approx(rows["error"].mean())


def test_depths_too_close_together_leave_out_the_second_label() -> None:
    assert readable([20, 26, 110]) == ["20", "26", "110"]
    assert readable([20, 23, 110]) == ["20", "", "110"]


# responses


def test_responses_stand_in_layer_order_at_the_last_step(made: Results) -> None:
    axes = panels(FIGURES["responses"](made)[0])["in layer order"]
    rows = last(made["responses"], network="residual", depth=44).groupby("layer")["std"].mean()
    drawn = line(axes, "residual-A-44")
    assert list(drawn.get_xdata()) == list(range(1, 44))
    assert list(drawn.get_ydata()) == pytest.approx(list(rows))


def test_sorted_responses_descend_and_are_the_same_numbers(make: Make) -> None:
    axes = panels(FIGURES["responses"](make())[0])
    ordered = line(axes["in layer order"], "plain-14").get_ydata()
    descending = line(axes["sorted by magnitude"], "plain-14").get_ydata()
    assert list(descending) == sorted(ordered, reverse=True)
    assert list(descending) != list(ordered)


@pytest.mark.slow
def test_responses_of_one_network_far_above_the_others_have_a_logarithmic_axis(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure, _ = responses(make())
    assert {axes.get_yscale() for axes in figure.axes} == {"linear"}
    usual = made_frames.ROWS["responses"]

    def exploded(run: RunSpec) -> list[dict[str, Any]]:
        size = 1_000 if run.network == "plain" and run.depth == 14 else 1
        return [row | {"std": row["std"] * size} for row in usual(run)]

    monkeypatch.setitem(made_frames.ROWS, "responses", exploded)
    figure, data = responses(make(name="exploded"))
    assert {axes.get_yscale() for axes in figure.axes} == {"log"}
    for axes in figure.axes:
        low, high = axes.get_ylim()
        assert low < data.loc[data["mean"] > 0, "mean"].min() < data["high"].max() < high
        assert "logarithmic" in axes.get_ylabel()


def test_the_caption_says_that_responses_read_out_gamma_and_beta(made: Results) -> None:
    for name in ("responses", "responses-heatmap"):
        assert "gamma and beta" in words(FIGURES[name](made)[0])


# heat maps


def test_a_cell_of_the_responses_is_the_mean_over_seeds_at_its_layer_and_step(made: Results) -> None:
    axes = panels(FIGURES["responses-heatmap"](made)[0])["residual-A-44"]
    rows = made["responses"].query("network == 'residual' and depth == 44")
    wide = rows.groupby(["layer", "step"])["std"].mean().unstack()
    np.testing.assert_allclose(axes.images[0].get_array(), wide.to_numpy())


def test_a_cell_of_the_gradients_is_a_logarithm(made: Results) -> None:
    axes = panels(FIGURES["gradients-heatmap"](made)[0])["plain-20"]
    rows = made["gradients"].query("network == 'plain' and depth == 20")
    wide = rows.groupby(["layer", "step"])["weight_grad_norm"].mean().unstack()
    np.testing.assert_allclose(axes.images[0].get_array(), np.log10(wide.to_numpy()))


@pytest.mark.parametrize("name", ["responses-heatmap", "gradients-heatmap"])
def test_all_panels_of_a_heat_map_share_one_colour_scale(made: Results, name: str) -> None:
    scales = {image.get_clim() for axes in FIGURES[name](made)[0].axes for image in axes.images}
    assert len(scales) == 1


def test_the_ticks_of_a_heat_map_are_recorded_steps(made: Results) -> None:
    axes = panels(FIGURES["responses-heatmap"](made)[0])["residual-A-44"]
    steps = sorted(made["responses"]["step"].unique())
    assert [int(text.get_text()) for text in axes.get_xticklabels()] == [steps[int(x)] for x in axes.get_xticks()]
    assert len(steps) == axes.images[0].get_array().shape[1]


def test_a_network_of_which_no_seed_finished_is_shown_and_grey_after_it_diverged(make: Make) -> None:
    results = make(diverged={("plain", 14, 0)})
    axes = panels(FIGURES["gradients-heatmap"](results)[0])["plain-14, one diverged run"]
    steps = np.array(sorted(results["gradients"]["step"].unique()))
    blank = np.ma.getmaskarray(axes.images[0].get_array()).all(axis=0)
    assert list(blank) == list(steps >= STEP_DIVERGED)
    assert np.allclose(axes.images[0].get_cmap().get_bad()[0], int(BLANK[1:3], 16) / 255)


# gradient flow and branches


def test_gradient_norms_stand_by_layer_at_the_first_and_the_last_step(made: Results) -> None:
    figure, data = FIGURES["gradient-flow"](made)
    assert {0, 640} <= set(data["step"])
    axes = figure.axes[-1]
    rows = last(made["gradients"], network="residual", depth=20).groupby("layer")["weight_grad_norm"].mean()
    assert list(line(axes, "residual-A-20").get_ydata()) == pytest.approx(list(rows))
    assert (axes.get_yscale(), figure.axes[3].get_title()) == ("log", "step 640")


def test_branches_are_the_ratio_to_the_shortcut_with_a_ring_where_a_stage_begins(made: Results) -> None:
    axes = panels(FIGURES["branches"](made)[0])["step 640"]
    rows = last(made["branches"], depth=44)
    ratio = (rows["branch_std"] / rows["shortcut_std"]).groupby(rows["block"]).mean()
    assert list(line(axes, "residual-A-44").get_ydata()) == pytest.approx(list(ratio))
    rings = [list(drawn.get_xdata()) for drawn in axes.lines if drawn.get_label() == "stages"]
    assert rings == [[4, 7], [8, 15]]


# what all figures share


@pytest.mark.slow
def test_a_network_has_the_same_colour_in_every_figure(made: Results) -> None:
    found: dict[str, set[str]] = {}
    for name in ("curves", "responses", "gradient-flow", "branches"):
        for network, drawn in networks_of(FIGURES[name](made)[0]):
            found.setdefault(network, set()).add(str(drawn.get_color()))
    assert found == {
        f"{kind}-{depth}": {shade(network, depth, (20, 44))}
        for network, kind in (("plain", "plain"), ("residual", "residual-A"))
        for depth in (20, 44)
    }


def test_deeper_is_darker_and_a_single_depth_has_the_networks_colour() -> None:
    def lightness(depth: int) -> int:
        return sum(bytes.fromhex(shade("plain", depth, (20, 32, 44, 56, 110))[1:]))

    assert np.all(np.diff([lightness(depth) for depth in (20, 32, 44, 56, 110)]) < 0)
    assert shade("plain", 20, (20,)).upper() == COLOURS["plain"]


@pytest.mark.slow
def test_every_figure_carries_the_labels_of_its_study_and_its_provenance(
    every: tuple[str, Figure, pd.DataFrame],
) -> None:
    _, figure, data = every
    assert "640 steps: not the paper's schedule" in words(figure)
    assert "torch 2.11.0" in words(figure)
    assert len(data)


def test_the_figure_of_an_experiment_names_its_own_precision(every: tuple[str, Figure, pd.DataFrame]) -> None:
    name, figure, _ = every
    assert ("the experiment fp32" in words(figure)) == (name in OF_EXPERIMENT), name


@pytest.mark.slow
def test_synthetic_images_are_named_on_every_figure(make: Make) -> None:
    results = make(dataset=Synthetic(examples=100, test_examples=20))
    for figure_function in FIGURES.values():
        assert "no evidence about natural images" in words(figure_function(results)[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("measure", "notes"),
    [
        ({}, set()),
        ({"eval_examples": 500}, {"Before the last step on the first 500"}),
        ({"final_examples": 40}, {"At the last step on the first 40"}),
        ({"eval_examples": 500, "final_examples": 40}, {"Before the last step on the first 500", "At the last step"}),
    ],
)
def test_curves_say_how_many_images_their_errors_are_of(make: Make, measure: dict[str, int], notes: set[str]) -> None:
    said = " ".join(words(curves(make(measure=measure))[0]).split())
    assert all(note in said for note in notes)
    assert said.count("the last step on the first") == len(notes)


@pytest.mark.slow
def test_nothing_leaves_the_page(every: tuple[str, Figure, pd.DataFrame]) -> None:
    name, figure, _ = every
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    assert (box.x0 >= 0, box.y0 >= 0) == (True, True), name
    assert box.x1 <= figure.get_figwidth(), name
    assert box.y1 <= figure.get_figheight(), name


def test_no_two_end_labels_overlap_and_none_changes_places() -> None:
    placed = spread_positions([0.50, 0.51, 0.10, 0.505, 0.99, 1.0], 0.05)
    assert np.diff(sorted(placed)).min() >= 0.05 - 1e-12
    assert list(np.argsort(placed)) == [2, 0, 3, 1, 4, 5]
    assert 0 <= min(placed) <= max(placed) <= 1
    assert placed[2] == pytest.approx(0.10)


# missing data


@pytest.mark.slow
def test_a_missing_probe_is_an_error_of_use_in_one_line(make: Make) -> None:
    results = make(measure=Measure(probes=("gradients",)))
    with pytest.raises(UserError, match=r"^figure branches needs the probe 'branches', which this study did not"):
        FIGURES["branches"](results)
    assert FIGURES["gradient-flow"](results)


@pytest.mark.slow
def test_a_study_of_plain_networks_has_no_branches_and_all_other_figures(make: Make, tmp_path: Path) -> None:
    drawn = draw(make(networks=("plain",), depths=(8,)), (), ("png",), tmp_path / "out")
    assert set(drawn.skipped) == {"branches", "paths"}
    assert all("residual network" in why for why in drawn.skipped.values())
    assert len(drawn.paths) == 2 * (len(FIGURES) - 2)


def test_a_study_without_a_done_run_is_an_error_of_use(make: Make) -> None:
    results = make()
    for run_id in results.run_ids:
        results.folder.remove_run(run_id)
    with pytest.raises(UserError, match="needs a run that is done"):
        curves(load(results.folder.path))


def test_an_unfinished_study_says_how_many_runs_are_done(make: Make) -> None:
    results = make()
    results.folder.remove_run(results.run_ids[0])
    assert "3 of 4 runs are done" in words(curves(load(results.folder.path))[0])


@pytest.mark.slow
def test_all_figures_survive_a_study_in_which_every_run_diverged(make: Make, tmp_path: Path) -> None:
    everything = {(network, depth, 0) for network in COLOURS for depth in (8, 14)}
    drawn = draw(make(diverged=everything), (), ("png",), tmp_path / "out")
    assert not drawn.skipped


@pytest.mark.slow
def test_figures_survive_runs_that_diverged_before_any_evaluation(make: Make, tmp_path: Path) -> None:
    results = make(diverged={(network, depth, 0) for network in COLOURS for depth in (8, 14)})
    for name in ("curves", "responses"):
        frame = results[name]
        running = frame[frame["split"] == "train_running"] if name == "curves" else frame.assign(std=np.nan)
        results._read[name] = running.reset_index(drop=True)
    assert not set(draw(results, (), ("png",), tmp_path / "out").skipped) - {"depth"}


# files


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_the_same_frames_give_the_same_bytes(make: Make, tmp_path: Path, kind: str) -> None:
    results = make()
    names = ("curves", "responses-heatmap")
    first = draw(results, names, (kind,), tmp_path / "first").paths
    second = draw(load(results.folder.path), names, (kind,), tmp_path / "second").paths
    assert [path.name for path in first] == [f"{name}.{end}" for name in names for end in (kind, "csv")]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "date"), [("png", b"tIME"), ("svg", b"<dc:date>"), ("pdf", b"CreationDate")])
def test_a_file_holds_its_provenance_and_no_date(make: Make, tmp_path: Path, kind: str, date: bytes) -> None:
    (path, _) = draw(make(), ("depth",), (kind,), tmp_path).paths
    assert date not in path.read_bytes()
    assert b"torch 2.11.0" in path.read_bytes()


@pytest.mark.slow
def test_settings_of_the_user_do_not_change_a_figure(make: Make, tmp_path: Path) -> None:
    import matplotlib

    results = make()
    (plain, _) = draw(results, ("depth",), ("png",), tmp_path / "a").paths
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red"}):
        (set_up, _) = draw(results, ("depth",), ("png",), tmp_path / "b").paths
        assert matplotlib.rcParams["font.size"] == 20
    assert plain.read_bytes() == set_up.read_bytes()


@pytest.mark.slow
def test_the_csv_holds_the_data_of_the_figure(make: Make, tmp_path: Path) -> None:
    results = make()
    (_, path) = draw(results, ("curves",), ("png",), tmp_path).paths
    read = pd.read_csv(path, keep_default_na=False)
    _, data = curves(results)
    assert list(read.columns) == list(data.drop(columns="arm").columns)  # of a study without arms
    np.testing.assert_allclose(read["mean"].astype(float), data["mean"], rtol=1e-14)


@pytest.mark.parametrize(("names", "formats"), [(("curve",), ("png",)), ((), ("jpg",))])
def test_an_unknown_name_or_format_is_refused_with_the_choices(
    made: Results, tmp_path: Path, names: tuple[str, ...], formats: tuple[str, ...]
) -> None:
    with pytest.raises(UserError, match="choose from"):
        draw(made, names, formats, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_figures_are_drawn_without_torch() -> None:
    code = "import sys, degradation.figures; print({*sys.modules} & {'torch'})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_drawing_leaves_no_figure_in_pyplot(made: Results) -> None:
    depth(made)
    assert matplotlib.pyplot.get_fignums() == []


def test_dollar_signs_in_names_of_layers_and_titles_are_no_formulas():
    names = ["$$", r"\lr$", "$a_", "fine"]
    rows = {"step": 0, "stage": 1, "weight_grad_norm": 1.0, "weight_norm": 1.0, "update_norm": 1.0}
    rows |= {"response_grad_norm": 1.0, "response_grad_rms": 1.0}
    gradients = pd.DataFrame([rows | {"layer": number, "name": name} for number, name in enumerate(names)])
    figure, _ = recorded({"gradients": gradients}, title="$$ of a file")
    figure.savefig(io.BytesIO())
    shown = [text.get_text() for axes in figure.axes for text in axes.get_xticklabels()]
    assert shown[-4:] == names
