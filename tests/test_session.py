"""A run plans, trains, draws and sums up; its exit status says how it ended."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from degradation.cli import train
from degradation.errors import Interrupted, UserError
from degradation.launchers import runner
from degradation.launchers.runner import Outcome
from degradation.runtime.environment import Options
from degradation.runtime.progress import silent
from degradation.runtime.signals import interruptible, stop_requests
from degradation.spec import StudySpec
from degradation.store import StudyFolder
from degradation.study.results import load
from tests import calling
from tests.calling import CHECKOUT, TINY, Command, FixedCosts, outcome_of
from tests.made_frames import make_study

pytestmark = pytest.mark.slow

command = calling.command
trained = calling.trained


def test_a_run_prints_the_plan_trains_draws_and_sums_up(command: Command, trained: list[Options]) -> None:
    said = command("run", *TINY, "--threads", "2", "--jobs", "1", "--device", "cpu", "--format", "png")
    assert said.status == 0, said.err
    assert trained == [Options(device="cpu", threads=2, jobs=1)]
    assert "2 runs to train, about 2 s, into runs/synthetic" in said.out
    assert "evaluate  step 2 of 50  loss 1.5000  error 25.00%" in said.out
    assert "step 1 of 50" not in said.out
    assert "figure files in runs/synthetic/figures" in said.out
    assert Path("runs/synthetic/figures/curves.png").exists()
    assert "What more layers do to a plain network was not measured." in " ".join(said.out.split())
    assert Path("runs/synthetic/figures/curves.png").stat().st_size > 0
    assert not Path("runs/synthetic/figures/curves.svg").exists()
    assert "2 runs finished in runs/synthetic" in said.out
    assert said.out.rstrip().endswith("degradation report synthetic")
    assert said.out.count("not the paper's schedule") == 2


def test_run_again_there_is_nothing_to_do(command: Command, trained: list[Options]) -> None:
    command("run", *TINY, "--no-figures")
    said = command("run", *TINY, "--no-figures")
    assert (said.status, len(trained)) == (0, 1)
    assert "nothing to do: all runs are done" in said.out
    assert "2 runs finished" in said.out


def test_the_summary_as_json_stands_alone_on_stdout(command: Command, trained: list[Options]) -> None:
    said = command("run", *TINY, "--json", "--no-figures")
    document = said.json
    assert len(document["finished"]) == 2
    assert document["failed"] == {}
    assert len(document["labels"]) == 2
    curves = load("runs/synthetic")["curves"].query("split == 'train' and step == 50")
    expected = {(row.network, row.statistics): row.error for row in curves.itertuples()}
    found = {(row["network"], row["statistics"]): row["error"] for row in document["final_training_errors"]}
    assert found == expected
    assert len(found) == 4
    assert "timing a few steps" in said.err


def test_final_errors_are_means_over_seeds(command: Command) -> None:
    folder = make_study(Path("runs"), depths=(8, 20), seeds=(0, 1, 2))
    curves = load(folder.path)["curves"].query("split == 'train' and step == 640")
    means = curves.groupby(["depth", "network", "statistics"])["error"].mean()
    errors = command("run", "made", "--no-figures", "--json").json["final_training_errors"]
    found = {(row["depth"], row["network"], row["statistics"]): row["error"] for row in errors}
    assert found == pytest.approx(means.to_dict())
    assert {row["seeds"] for row in errors} == {3}
    table = command("run", "made", "--no-figures").out
    assert f"{100 * means[20, 'plain', 'running']:.2f}%" in table


def test_digits_are_trained_and_a_smaller_evaluation_bounds_the_last_one(command: Command) -> None:
    line = "run --dataset digits --depths 8 --steps 4 --set recipe.batch=16 --eval-examples 40 --no-figures"
    said = command(*line.split())
    assert said.status == 0, said.err
    last = load("runs/digits")["curves"].query("step == 4 and split != 'train_running'")
    assert set(last["split"]) == {"train", "test"}
    assert set(last["examples"]) == {40}


def test_seeds_are_added_to_a_study_on_disk(command: Command, trained: list[Options]) -> None:
    make_study(Path("runs"), depths=(8,), seeds=(0,))
    said = command("run", "made", "--seeds", "3", "4", "--no-figures")
    assert "4 runs to train" in said.out
    assert StudyFolder("runs", "made").study()["seeds"] == [0, 3, 4]  # type: ignore[index]


def test_a_budget_chooses_the_steps_and_a_study_on_disk_keeps_its_own(command: Command, trained: list[Options]) -> None:
    first = command("run", "--dataset", "synthetic", "--depths", "8", "--budget", "2m", "--no-figures")
    assert first.status == 0, first.err
    assert StudyFolder("runs", "synthetic").study()["recipe"]["steps"] == 120  # type: ignore[index]
    again = command("run", "--dataset", "synthetic", "--depths", "14", "--budget", "5m", "--no-figures")
    assert again.status == 0, again.err
    assert "synthetic is on disk with 120 steps and keeps them" in " ".join(again.out.split())


@pytest.mark.parametrize("line", ["run", "plan", "run --budget 2m"])
def test_a_capture_that_cannot_be_is_refused_before_anything_is_timed(
    command: Command, trained: list[Options], line: str
) -> None:
    said = command(*line.split(), "--dataset", "synthetic", "--depths", "8", "--device", "cpu", "--capture")
    assert (said.status, said.out, trained) == (2, "", [])
    assert said.err == "degradation: --capture needs CUDA graphs, which device cpu does not have: remove it\n"


def test_a_failed_run_is_named_on_stderr_and_the_status_is_1(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome_of(monkeypatch, Outcome(finished=("a",), failed={"plain-8-s0-x": "out of\nmemory"}))
    said = command("run", *TINY)
    assert (said.status, said.err) == (1, "degradation: plain-8-s0-x failed: out of memory\n")


def test_a_diverged_run_is_named_and_the_status_is_0(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome_of(monkeypatch, Outcome(finished=("a",), diverged=("plain-8-s0-x",)))
    said = command("run", *TINY)
    assert (said.status, said.err) == (0, "")
    assert "plain-8-s0-x diverged" in said.out


@pytest.mark.parametrize("status", [130, 143])
def test_an_interruption_says_how_to_go_on(command: Command, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    outcome_of(monkeypatch, Interrupted(status))
    said = command("run", *TINY, "--name", "a.b")
    assert said.status == status
    assert said.err == (
        f"degradation: interrupted; the same command continues it: degradation run {' '.join(TINY)} --name a.b\n"
    )


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_steps_are_timed_ends_in_one_line(tmp_path: Path, number: int, status: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "degradation", "run", *TINY], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
    )  # fmt: skip
    assert process.stdout
    assert any(said.startswith("timing") for said in process.stdout)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.count("\n")) == (status, 1)
    assert err.startswith("degradation: interrupted; the same command continues it: degradation run ")


def test_signals_that_follow_the_first_wait_for_what_it_ends() -> None:
    before, ended = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGINT)
            ended.append("whole")

    with pytest.raises(Interrupted) as stopped, interruptible(), interruptible():
        work()
    assert (stopped.value.status, ended) == (143, ["whole"])
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_signal_whose_exception_was_lost_is_obeyed_all_the_same() -> None:
    reached: list[object] = []

    def work() -> None:
        lose_a_signal()
        with stop_requests() as stop:
            reached.append(stop.status)
        with interruptible():
            reached.append("the inner block")
        reached.append("what follows it")

    for lost in (lose_a_signal, work):
        with pytest.raises(Interrupted) as stopped, interruptible():
            lost()
        assert stopped.value.status == 143
    assert reached == [143, "the inner block"]


def lose_a_signal() -> None:
    with suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)


def test_a_signal_within_an_exec_of_text_leaves_the_exit_status_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "executing.py").write_text(
        "import sys; from degradation.errors import Interrupted\n"
        "from degradation.runtime.signals import interruptible\n"
        "try:\n"
        "    with interruptible(): exec('import signal; signal.raise_signal(signal.SIGTERM)')\n"
        "except Interrupted as interrupted:\n"
        "    sys.exit(interrupted.status)\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{CHECKOUT}"}
    assert subprocess.run([sys.executable, "-m", "executing"], env=environment).returncode == 143


def test_a_process_started_while_signals_are_held_has_them_held(tmp_path: Path) -> None:
    # In a process of its own: what lets the signals through comes with the first process that is spawned.
    (tmp_path / "starting.py").write_text(
        "import multiprocessing, signal\n"
        "from degradation.runtime.signals import signals_held\n"
        "def say(connection): connection.send(signal.pthread_sigmask(signal.SIG_BLOCK, ()))\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('spawn')\n"
        "    here, there = context.Pipe()\n"
        "    process = context.Process(target=say, args=(there,))\n"
        "    with signals_held():\n"
        "        process.start()\n"
        "        own = signal.pthread_sigmask(signal.SIG_BLOCK, ())\n"
        "    after = signal.pthread_sigmask(signal.SIG_BLOCK, ())\n"
        "    print(*map(sorted, (here.recv(), own, after)), sep='\\n')\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{CHECKOUT}"}
    said = subprocess.run(
        [sys.executable, "-m", "starting"], env=environment, capture_output=True, text=True, check=True
    )
    held = str(sorted((signal.SIGINT, signal.SIGTERM)))
    assert said.stdout.splitlines() == [held, held, "[]"]


def test_a_lost_exception_of_a_signal_prints_no_traceback_and_any_other_does(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: said.append(lost.exc_type))
    before = sys.unraisablehook

    def work() -> None:
        Dying(lambda: int("none"))
        Dying(lambda: signal.raise_signal(signal.SIGINT))

    with pytest.raises(Interrupted), interruptible():
        work()
    assert said == [ValueError]
    assert sys.unraisablehook is before


class Dying:
    """Does something when it is collected, where Python can raise nothing."""

    def __init__(self, last: Callable[[], object]) -> None:
        self.last = last

    def __del__(self) -> None:
        self.last()


def test_an_error_of_use_while_training_is_one_line(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome_of(monkeypatch, UserError("no CIFAR-10 here"))
    said = command("run", *TINY)
    assert (said.status, said.err) == (2, "degradation: no CIFAR-10 here\n")


def test_a_damaged_done_run_is_a_failed_one_although_nothing_is_pending(command: Command) -> None:
    folder = make_study(Path("runs"), depths=(8,), seeds=(0,))
    run_id = folder.run_ids()[0]
    (folder.run_path(run_id) / "curves.parquet").write_bytes(b"other")
    said = command("run", "made", "--no-figures")
    assert said.status in (1, 2)
    assert f"{run_id}/curves.parquet does not hold what was written" in said.err
    assert said.err.count("\n") == 1


# Long runs are asked about, on a terminal


@pytest.mark.parametrize(
    ("hours", "reading", "writing", "asked"),
    [(3, True, True, True), (1, True, True, False), (3, False, True, False), (3, True, False, False)],
)
def test_only_a_long_study_on_a_terminal_is_asked_about(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hours: int, reading: bool, writing: bool, asked: bool
) -> None:
    outcome_of(monkeypatch, Outcome())
    monkeypatch.setattr(runner, "time_costs", lambda study, options: FixedCosts(3600 * hours))
    questions: list[str] = []
    monkeypatch.setattr(train.typer, "confirm", lambda text, **_: questions.append(text))
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: reading))
    out = SimpleNamespace(is_terminal=writing, stderr=False, print=lambda *_, **__: None)
    monkeypatch.setattr(train, "watching", lambda *_: nullcontext(silent))
    study = StudySpec(depths=(8,), networks=("plain",))
    train.train(StudyFolder(tmp_path, "long"), study, Options(), out, ask=True)  # type: ignore[arg-type]
    assert bool(questions) is asked
    train.train(StudyFolder(tmp_path, "long"), study, Options(), out, ask=False)  # type: ignore[arg-type]
    assert len(questions) == int(asked)
