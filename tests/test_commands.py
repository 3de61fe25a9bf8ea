"""The command keeps its promises: what it prints, its exit status, its errors in one line."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from degradation import cli
from degradation._version import __version__
from degradation.cli import main
from degradation.frames import schemas
from degradation.launchers import runner
from degradation.spec import StudySpec
from degradation.store import EXPERIMENTS, StudyFolder
from degradation.study import library
from tests import calling
from tests.calling import CHECKOUT, SHIPPED, Command
from tests.made_frames import make_study

command = calling.command


# Errors of use: status 2, one line, no traceback


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "run --depths 21",
            "--depths: depth 21 is not of the CIFAR family 6n+2; the nearest valid depths are 20",
        ),
        ("run --depths -4", "--depths: depth -4 is not of the CIFAR family"),
        ("run --depths x", "--depths: expected a whole number, not 'x'"),
        ("run --steps 1.5", "--steps: expected a whole number, not '1.5'"),
        ("run --networks plan residual", "--networks: expected plain or residual, not 'plan'"),
        ("run quickstat", "did you mean quickstart?"),
        ("run nothing.toml", "no file nothing.toml"),
        ("run", "nothing to study"),
        ("run quickstart --steps 0", "--steps: expected a number of at least 1, not 0"),
        ("run quickstart --set recipe.stepz=3", "did you mean steps?"),
        ("run quickstart --set recipe.steps", "--set: expected KEY=VALUE"),
        ("run quickstart --budget soon", "--budget: expected a time such as 90s"),
        ("run quickstart --budget 30m --steps 4", "--budget: it chooses the steps, and --steps gives them"),
        ("run quickstart --device gpu", "--device: expected auto, cpu, cuda, mps, not 'gpu'"),
        ("run quickstart --jobs none", "--jobs: expected auto or a whole number"),
        ("run quickstart --format gif", "--format: expected png, svg, pdf, not 'gif'"),
        ("run quickstart --name ../x", "a study's name has letters"),
        ("run quickstart --frobnicate", "--frobnicate"),
        ("run quickstart paper", "paper"),
        ("plan quickstart --no-figures", "plan has no option --no-figures, which belongs to run: remove it"),
        ("run quickstart --figures", "--no-figures"),
        ("report made --normalize cifar", "report has no option --normalize, which belongs to probe: remove it"),
        ("plan --depths 21", "--depths: depth 21"),
        ("trai quickstart", "trai"),
        ("status nothing", "no study 'nothing' on disk"),
        ("plot nothing", "no study 'nothing' on disk"),
        ("plot made nothing", "nothing"),
        ("export nothing", "no study 'nothing' on disk"),
        ("export made --format xls", "--format: expected csv or parquet, not 'xls'"),
        ("clean made --run plain", "--run: no run 'plain' among 2 in runs/made"),
        ("clean made --run plain --all", "--run and --all"),
        ("run made --depths 8 --steps 641", "recipe.steps"),
        ("clean", "NAME"),
    ],
)
def test_an_error_of_use_is_one_line_and_status_2(command: Command, line: str, message: str) -> None:
    make_study(Path("runs"), depths=(8,), seeds=(0,))
    said = command(*line.split())
    assert said.status == 2
    assert said.out == ""
    assert message.lower() in said.err.lower()
    assert said.err.startswith("degradation: ")
    assert said.err.count("\n") == 1
    assert said.err.endswith("\n")


def test_an_error_within_a_study_file_names_its_line(command: Command) -> None:
    Path("x.toml").write_text('question = "q"\n[recipe]\nstepz = 3\n')
    said = command("run", "x.toml")
    assert said.err.startswith("degradation: x.toml line 3: recipe.stepz is not a field of recipe")
    assert (said.status, said.err.count("\n")) == (2, 1)


def test_an_error_of_our_own_keeps_its_traceback(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> StudySpec:
        raise ZeroDivisionError

    monkeypatch.setattr(runner, "grow", broken)
    with pytest.raises(ZeroDivisionError):
        main(["plan", "quickstart"])


# Without torch


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "--help",
        "run --help",
        "report --help",
        "--version",
        "studies",
        "plan quickstart",
        "status",
        "status made --json",
    ],
)
def test_reading_commands_import_neither_torch_nor_what_only_figures_and_reports_need(
    tmp_path: Path, line: str
) -> None:
    make_study(tmp_path / "runs", depths=(8,), seeds=(0,))
    code = (
        "import sys\n"
        "from degradation.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as ended: status = ended.code\n"
        "heavy = {'torch', 'torchvision', 'matplotlib', 'scipy', 'jinja2', 'pandas'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else status)"
    )
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    found = subprocess.run(
        [sys.executable, "-c", code, *line.split()],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout


@pytest.mark.parametrize("start", [[str(CHECKOUT / "cli.py")], ["-m", "degradation"]])
def test_the_command_also_works_from_a_checkout_and_as_a_module(tmp_path: Path, start: list[str]) -> None:
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    found = subprocess.run(
        [sys.executable, *start, "--version"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (found.returncode, found.stdout) == (0, f"degradation {__version__}\n")


def test_without_arguments_the_help_is_shown(command: Command) -> None:
    said = command()
    assert said.status == 0
    assert all(name in said.out for name in ("run", "plan", "status", "plot", "export", "clean", "studies"))


# Plans


@pytest.mark.parametrize(
    ("line", "depths", "seeds"),
    [
        ("--depths 20 32 56 110", [20, 32, 56, 110], [0]),
        ("--depths 20 --depths 56", [20, 56], [0]),
        ("--depths=20", [20], [0]),
        ("quickstart --seeds 3 4", [8, 20, 32], [3, 4]),
        ("--seeds 3 4 quickstart", [8, 20, 32], [3, 4]),
        ("--depths 8 14 studies/x.toml", [8, 14], [0]),
    ],
)
def test_values_after_one_option_reach_the_study(
    command: Command, line: str, depths: list[int], seeds: list[int]
) -> None:
    Path("studies").mkdir()
    Path("studies/x.toml").write_text('question = "q"\n')
    study = command("plan", *line.split(), "--json").json["study"]
    assert (study["depths"], study["seeds"]) == (depths, seeds)


def test_every_study_option_reaches_its_field(command: Command) -> None:
    line = (
        "plan --networks plain residual --shortcuts A B --precision bf16 --warmup-steps 3 --steps 70 "
        "--set recipe.momentum=0.5 --probes gradients responses --probe-every 7 --eval-every 9 "
        "--eval-examples 11"
    )
    study = command(*line.split(), "--json").json["study"]
    assert study["networks"] == ["plain", "residual"]
    assert study["shortcuts"] == ["A", "B"]
    assert study["precision"] == "bf16"
    assert study["measure"]["probes"] == ["gradients", "responses"]
    assert [study["measure"][name] for name in MEASURED] == [7, 9, 11, 11]
    assert [study["recipe"][name] for name in ("warmup_steps", "steps", "momentum")] == [3, 70, 0.5]


@pytest.mark.parametrize(("steps", "never"), [("700", True), ("1000", False)])
def test_a_plan_says_where_a_warm_up_lasts_to_the_first_division(command: Command, steps: str, never: bool) -> None:
    said = " ".join(command("plan", "--depths", "8", "--steps", steps).out.split())
    assert f"steps of warm-up{', to the first division: 0.1 is never used' if never else ' '}" in said
    assert ("never used" in said) == never


MEASURED = ("probe_every", "eval_every", "eval_examples", "final_examples")


def test_a_plan_lists_runs_pairs_parameters_and_what_the_study_is_not(command: Command) -> None:
    said = command("plan", "quickstart")
    assert "18 runs, 9 matched pairs" in said.out
    assert "269,722" in said.out
    assert "2.54 M" in said.out
    assert "not the paper's schedule" in said.out
    assert "real images of an easy task" in " ".join(said.out.split())
    assert max(map(len, said.out.splitlines())) <= 80
    assert not Path("runs").exists()


def test_a_plan_of_residual_networks_alone_says_that_they_have_no_match(command: Command) -> None:
    said = command("plan", "--depths", "8", "--networks", "residual", "--shortcuts", "A", "C")
    assert "2 runs, 0 matched pairs; 2 runs without a match" in said.out


def test_a_plain_run_is_paired_with_each_shortcut(command: Command) -> None:
    document = command("plan", "--depths", "8", "--shortcuts", "A", "B", "C", "--json").json
    plain = [run["run_id"] for run in document["runs"] if run["network"] == "plain"]
    assert len(document["runs"]) == 4
    assert [pair[0] for pair in document["pairs"]] == plain * 3


def test_a_plan_of_a_study_on_disk_adds_to_it_and_shows_what_is_done(command: Command) -> None:
    make_study(Path("runs"), depths=(8,), seeds=(0,))
    said = command("plan", "made", "--seeds", "0", "1")
    assert said.out.count("1 done, 1 pending") == 2


# Figures, frames, cleaning


@pytest.mark.slow
def test_plot_draws_the_figures_asked_for(command: Command) -> None:
    make_study(Path("runs"), depths=(8, 20), seeds=(0,))
    said = command("plot", "made", "curves", "--format", "png", "pdf", "--out", "drawn")
    assert said.status == 0, said.err
    assert {"drawn/curves.png", "drawn/curves.pdf"} <= set(said.out.split())
    assert all(Path(name).is_file() for name in said.out.split())
    assert not Path("drawn/depth.png").exists()


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_export_writes_one_file_for_each_frame(command: Command, format: str) -> None:
    import pandas as pd

    make_study(Path("runs"), depths=(8,), seeds=(0,))
    said = command("export", "made", "--format", format, "--out", "tables")
    paths = {Path(line).stem: Path(line) for line in said.out.split()}
    assert set(paths) == {"runs", *schemas.SCHEMAS, *EXPERIMENTS}
    read = pd.read_csv if format == "csv" else pd.read_parquet
    assert set(read(paths["curves"])["network"]) == {"plain", "residual"}  # type: ignore[operator]
    assert len(read(paths["runs"])) == 2  # type: ignore[operator]


def test_export_of_a_study_without_a_done_run_is_refused(command: Command) -> None:
    StudyFolder("runs", "empty").write_study(StudySpec().begun().model_dump(mode="json"))
    said = command("export", "empty")
    assert (said.status, said.err.count("\n")) == (2, 1)


# Reports


@pytest.mark.slow
def test_report_writes_the_page_and_its_twin_and_prints_answer_and_paths(command: Command) -> None:
    make_study(Path("runs"), depths=(8,), seeds=(0,), steps=32, experiments=False)
    said = command("report", "made")
    assert said.status == 0, said.err
    assert said.out.split()[-2:] == ["runs/made/report.html", "runs/made/report.md"]
    assert "claims: 0 supported" in " ".join(said.out.split())
    assert "degradation run --depths 8 --steps 32 --name made" in Path("runs/made/report.md").read_text()


@pytest.mark.slow
def test_report_takes_a_path_another_folder_json_and_opens_the_page(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda page: opened.append(page) or True)
    make_study(Path("elsewhere"), depths=(8,), seeds=(0,), steps=32, experiments=False)
    said = command("report", "elsewhere/made", "--out", "pages", "--json", "--open")
    assert said.status == 0, said.err
    assert (said.json["page"], said.json["markdown"]) == ("pages/report.html", "pages/report.md")
    assert len(said.json["matched_pairs"]["pairs"]) == 1
    assert {verdict["verdict"] for verdict in said.json["analysis"]["verdicts"]} >= {"not measured"}
    assert opened == [Path("pages/report.html").resolve().as_uri()]
    assert not Path("elsewhere/made/report.html").exists()


@pytest.mark.slow
def test_a_page_that_no_browser_opens_is_named_in_one_line(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("webbrowser._tryorder", [])  # a machine without a browser, in a window or in the terminal
    make_study(Path("runs"), depths=(8,), seeds=(0,), steps=32, experiments=False)
    said = command("report", "made", "--open")
    line = "degradation: --open: no browser found; the page is runs/made/report.html\n"
    assert (said.status, said.err) == (0, line)


@pytest.mark.slow
def test_compare_shows_what_differs_and_every_common_estimate(command: Command) -> None:
    make_study(Path("runs"), "one", depths=(8, 14), seeds=(0, 1), steps=32, experiments=False)
    make_study(Path("runs"), "two", depths=(8, 14), seeds=(0, 1), steps=64, experiments=False)
    said = command("compare", "one", "two")
    assert said.status == 0, said.err
    assert "recipe.steps: 32 and 64" in said.out
    assert "shortcut effect" in said.out
    document = command("compare", "one", "two", "--json").json
    assert document["differing"] == {"recipe.steps": [32, 64]}
    assert all({"a", "b", "difference"} <= set(row) for row in document["rows"])


@pytest.mark.slow
def test_compare_refuses_other_images_in_one_line(command: Command) -> None:
    from degradation.spec import Synthetic

    make_study(Path("runs"), "one", depths=(8,), seeds=(0,), steps=32, experiments=False)
    make_study(Path("runs"), "two", depths=(8,), seeds=(0,), steps=32, dataset=Synthetic())
    said = command("compare", "one", "two")
    assert (said.status, said.err.count("\n")) == (2, 1)
    assert "dataset.name is cifar10 and synthetic" in said.err


# Studies, pipes, completion


def test_studies_lists_what_ships_with_its_question(command: Command) -> None:
    document = command("studies", "--json").json
    assert [row["name"] for row in document] == list(SHIPPED)
    assert all(row["question"] in Path(row["path"]).read_text().splitlines()[0] for row in document)
    with_report = {row["name"] for row in document if row["report"]}
    assert {"digits", "cifar10-short", "learning-rate"} <= with_report
    assert "imagenet" not in with_report
    assert all(Path(row["report"]).is_file() for row in document if row["report"])
    said = " ".join(command("studies").out.split())
    assert "700 steps" in said
    assert "reports/digits" in said
    assert "reports/imagenet" not in said


def test_an_installed_package_has_no_reports_and_no_column_of_them(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "degradation").mkdir()
    shutil.copytree(CHECKOUT / "studies", tmp_path / "degradation" / "studies")
    monkeypatch.setattr(library, "PACKAGE", tmp_path / "degradation")
    assert "result" not in command("studies").out.splitlines()[1]
    assert {row["report"] for row in command("studies", "--json").json} == {None}


def test_ctrl_c_in_a_command_that_only_reads_is_one_line(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "shipped", lambda: signal.raise_signal(signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background has it ignored
    said = command("studies")
    signal.signal(signal.SIGINT, before)
    assert (said.status, said.out) == (130, "")
    assert said.err == "degradation: Interrupted. Completed work is saved.\n"


def test_ctrl_c_while_the_command_is_imported_is_one_line(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupting:
        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name == "degradation.cli.app":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "degradation.cli.app")
    monkeypatch.delattr(cli, "app")
    monkeypatch.setattr(sys, "meta_path", [Interrupting, *sys.meta_path])
    said = command("studies")
    assert (said.status, said.err) == (130, "degradation: interrupted before anything was done\n")


@pytest.mark.slow
def test_a_reader_that_goes_away_ends_the_command_quietly(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    line = [sys.executable, "-m", "degradation", "plan", "quickstart", "--json"]
    reading, writing = os.pipe()
    os.close(reading)
    found = subprocess.run(line, cwd=tmp_path, env=environment, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (found.returncode, found.stderr) == (141, "")


@pytest.mark.slow
def test_the_shell_completes_studies_and_values(tmp_path: Path) -> None:
    def completed(words: str) -> str:
        environment = os.environ | {
            "PYTHONPATH": str(CHECKOUT),
            "_DEGRADATION_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
        }
        line = [sys.executable, "-m", "degradation"]
        return subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True).stdout

    assert completed("degradation run qui").split() == ["quickstart"]
    assert completed("degradation run --networks plain --dataset ").split() == [
        "cifar10",
        "digits",
        "synthetic",
        "folder:",
    ]
