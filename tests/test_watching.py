"""Progress messages become lines or bars, and a reader that goes away does not end the training."""

import io
import re

import pytest
from rich.console import Console

from degradation.cli.progress import ProgressBars, watching
from degradation.runtime.progress import Progress, line
from degradation.spec import StudySpec, grid

RUNS = grid.runs(StudySpec(depths=(8, 20)))
BY_ID = {run.run_id: run for run in RUNS}


def message(run: int, phase: str, step: int = 0, **fields: object) -> Progress:
    return Progress(run_id=RUNS[run].run_id, phase=phase, step=step, steps=100, **fields)  # type: ignore[arg-type]


def terminal(width: int = 80) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)


def written(out: Console) -> str:
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def test_a_line_leaves_out_what_is_not_known() -> None:
    assert line(message(0, "started", message="continued from step 3")).endswith(
        f"  {RUNS[0].run_id}  started  step 0 of 100  continued from step 3"
    )
    full = message(0, "evaluate", 5, loss=1.0, error=0.125, images_per_second=1234.4)
    assert line(full).endswith("  evaluate  step 5 of 100  loss 1.0000  error 12.50%  1,234 images/s")


def test_elsewhere_than_on_a_terminal_training_messages_are_left_out() -> None:
    out = Console(file=io.StringIO(), width=80)
    with watching(out, BY_ID) as report:
        for phase in ("started", "train", "evaluate", "evaluating", "finished"):
            report(message(0, phase))
    assert [text.split()[2] for text in written(out).splitlines()] == ["started", "evaluate", "finished"]


def test_on_a_terminal_the_bars_are_weighted_by_the_work_of_each_run() -> None:
    out = terminal()
    with watching(out, BY_ID) as report:
        assert isinstance(report, ProgressBars)
        report(message(0, "train", 50))
        study = report.bars.tasks[0]
        work = [grid.multiply_adds(run.depth, run.shortcut) for run in RUNS]
        assert study.completed / (study.total or 0) == pytest.approx(50 / 101 * work[0] / sum(work))
        assert len(report.bars.tasks) == 2
        report(message(0, "finished", 100))
        assert len(report.bars.tasks) == 1
        assert study.completed / (study.total or 0) == pytest.approx(work[0] / sum(work))
        assert study.fields["text"] == f"1 done, 0 running, {len(RUNS) - 1} waiting"
        for run in range(1, len(RUNS)):
            report(message(run, "diverged", 10))
        assert study.completed == pytest.approx(study.total)


def test_an_evaluation_has_a_bar_of_its_own_and_nothing_is_at_its_end_before_it() -> None:
    with watching(terminal(), BY_ID) as report:
        assert isinstance(report, ProgressBars)
        report(message(0, "train", 100))
        study, run = report.bars.tasks
        assert run.percentage < 100
        assert study.completed < report.share.weights[RUNS[0].run_id]
        report(message(0, "evaluate", 100, part=(3, 12)))
        assert (run.completed, run.total) == (3, 12)
        assert run.fields["text"] == "evaluating at 100"
        report(message(0, "train", 50))
        assert (run.completed, run.total) == (50, 101)


def test_what_a_run_has_to_say_stands_above_the_bars() -> None:
    out = terminal(200)
    with watching(out, BY_ID) as report:
        report(message(0, "note", message="no CUDA graph here"))
        report(message(0, "train", 50))
    assert written(out).count("no CUDA graph here") == 1


def test_bars_fit_in_80_columns() -> None:
    out = terminal()
    with watching(out, BY_ID) as report:
        report(message(0, "train", 5, loss=12.3456, error=0.98765, images_per_second=123456.0))
        report.bars.refresh()  # type: ignore[attr-defined]
    shown = written(out)
    assert "5 loss 12.346 error 98.77% 123,456 img/s" in shown
    seen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r", "\n")  # without what moves the cursor
    assert max(map(len, seen.splitlines())) <= 80


def test_node_and_arm_of_each_run_are_shown_beside_what_is_done_running_and_waiting() -> None:
    out, arms = terminal(120), {run.run_id: "adam" for run in RUNS}
    with watching(out, BY_ID, arms) as report:
        report(message(0, "train", 5, node="node-7"))
        report(message(1, "train", 5, node="node-8"))
        report(message(1, "waiting", message="its node died; tried again, 1 of 3"))
        report.bars.refresh()  # type: ignore[attr-defined]
    shown = written(out)
    assert f"{RUNS[0].run_id.rsplit('-', 1)[0]} adam" in shown
    assert "node-7" in shown
    assert f"0 done, 1 running, {len(RUNS) - 1} waiting" in shown
    assert f"{RUNS[1].run_id}  (adam)  waiting" in shown


def test_a_line_names_arm_and_node_and_how_many_runs_have_ended() -> None:
    out = Console(file=io.StringIO(), width=80)
    with watching(out, BY_ID, {RUNS[0].run_id: "norm none"}) as report:
        report(message(0, "finished", 100, node="node-7"))
    assert (
        written(out)
        .rstrip()
        .endswith(f"  {RUNS[0].run_id}  (norm none)  finished  step 100 of 100  on node-7  (1 of {len(RUNS)})")
    )


class Closed(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_training_goes_on_when_nobody_reads() -> None:
    from degradation.cli.console import console

    with watching(console(file=Closed()), BY_ID) as report:
        report(message(0, "started"))
