"""The command called within a test, and training replaced by made-up rows."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from degradation.cli import main
from degradation.launchers import runner
from degradation.launchers.runner import Outcome
from degradation.runtime.environment import Options
from degradation.runtime.progress import OnProgress, Progress
from degradation.spec import RunSpec, StudySpec, grid
from degradation.store import StudyFolder
from tests.made_frames import write_run

CHECKOUT = Path(__file__).parent.parent
SHIPPED = (
    "activation-order", "batch-norm", "branch-start", "cifar10-16px", "cifar10-8px", "cifar10-short",
    "convolution-shortcut", "digits", "imagenet", "initialization", "learning-rate", "more-steps", "optimizer", "paper",
    "quickstart", "shortcut-variants", "warmup", "warmup-8px", "width",
)  # fmt: skip
TINY = ["--dataset", "synthetic", "--depths", "8", "--steps", "50"]


@dataclass
class Said:
    """What a command said, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Said]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command in an empty folder, 80 columns wide."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: str) -> Said:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        captured = capsys.readouterr()
        return Said(status=int(ended.value.code or 0), out=captured.out, err=captured.err)

    return call


@dataclass(frozen=True)
class FixedCosts:
    """Costs that need no timing: every run takes as long as the test says."""

    each: float

    def seconds(self, runs: Iterable[RunSpec]) -> float:
        return self.each * len(list(runs))

    def steps_within(self, study: StudySpec, seconds: float) -> int:
        return int(seconds)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Options]:
    """Training replaced by made-up rows: the list holds the options of each time that it was asked for."""
    asked: list[Options] = []

    def execute_study(folder: StudyFolder, study: StudySpec, options: Options, report: OnProgress) -> Outcome:
        asked.append(options)
        todo = runner.pending(folder, study)
        folder.write_study(study.begun().model_dump(mode="json"))
        for run in todo:
            steps = run.recipe.steps
            report(Progress(run_id=run.run_id, phase="started", steps=steps))
            report(Progress(run_id=run.run_id, phase="train", step=1, steps=steps, loss=2.0, error=0.5))
            report(Progress(run_id=run.run_id, phase="evaluate", step=2, steps=steps, loss=1.5, error=0.25))
            write_run(folder, run)
            report(Progress(run_id=run.run_id, phase="finished", step=steps, steps=steps))
        return Outcome(finished=tuple(run.run_id for run in grid.runs(study)))

    monkeypatch.setattr(runner, "execute_study", execute_study)
    monkeypatch.setattr(runner, "time_costs", lambda study, options: FixedCosts(1.0))
    return asked


def outcome_of(monkeypatch: pytest.MonkeyPatch, outcome: Outcome | Exception) -> None:
    def execute_study(folder: StudyFolder, study: StudySpec, options: Options, report: OnProgress) -> Outcome:
        folder.write_study(study.begun().model_dump(mode="json"))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(runner, "execute_study", execute_study)
    monkeypatch.setattr(runner, "time_costs", lambda study, options: FixedCosts(1.0))
