"""A resolved study -> training with progress, figures and a summary, for the command `run`."""

import shlex
import sys
from collections.abc import Sequence
from typing import Any

import typer
from rich.console import Console

from degradation.cli.console import errors_table, say_error
from degradation.cli.formatting import count, duration
from degradation.cli.progress import watching
from degradation.errors import DamagedError, UserError
from degradation.launchers import runner
from degradation.launchers.runner import Outcome
from degradation.runtime.distributed import here
from degradation.runtime.environment import Options
from degradation.spec import StudySpec, grid
from degradation.store import StudyFolder, as_place
from degradation.study.library import ROOT
from degradation.study.pairs import matches, sentence
from degradation.study.status import FinalError, run_statuses

ASK_SECONDS = 2 * 3600


def train(folder: StudyFolder, study: StudySpec, options: Options, out: Console, *, ask: bool) -> Outcome:
    """Print the estimated time, ask on a terminal if it is above two hours, and train the pending runs.

    Raises typer.Abort if the answer is no, Interrupted after a signal.
    """
    todo = runner.pending(folder, study)
    if not todo:
        out.print("nothing to do: all runs are done")
        if folder.study() is None:  # deleted, as advised for a damaged run
            folder.write_study(study.model_dump(mode="json"))
        return _outcome_on_disk(folder, study)
    with runner.ready(options) as resources:
        if resources:
            out.print(resources, soft_wrap=True)
        out.print("timing a few steps ...")
        seconds = runner.time_costs(study, options).seconds(todo)
        out.print(f"{count(len(todo), 'run')} to train, about {duration(seconds)}, into {folder.path}", soft_wrap=True)
        at_terminal = out.is_terminal and sys.stdin.isatty() and not here().several  # torchrun owns the terminal
        if ask and seconds > ASK_SECONDS and at_terminal:
            typer.confirm("Start?", default=True, abort=True, err=out.stderr)
        arms = {run.run_id: arm for run, arm in grid.arms(study).items()}
        with watching(out, {run.run_id: run for run in todo}, arms) as report:
            return runner.execute_study(folder, study, options, report)


def _outcome_on_disk(folder: StudyFolder, study: StudySpec) -> Outcome:
    """The outcome of a study without pending runs; all files but the weights are checked against their hashes."""
    statuses = run_statuses(folder, study, verify=True)
    return Outcome(
        finished=tuple(run_status.run_id for run_status in statuses if run_status.state == "done"),
        diverged=tuple(run_status.run_id for run_status in statuses if run_status.state == "diverged"),
        failed={run_status.run_id: run_status.note for run_status in statuses if run_status.state == "damaged"},
    )


def draw_all(folder: StudyFolder, formats: Sequence[str], out: Console) -> dict[str, Any]:
    """Draw all figures of the study into its folder; none if no run is done. Returns fields of the JSON document."""
    from degradation.figures import draw  # importing matplotlib takes a while: not before the training
    from degradation.report.marks import marks
    from degradation.study.results import Results

    try:
        results = Results(folder, skip_damaged=True)  # damaged runs are reported on stderr as failed
        if not results.run_ids:
            return {}
        drawn = draw(results, (), formats, folder.figures_path(), marks(results))
    except UserError as error:  # the runs are done nevertheless, and the summary is printed
        why = f"the figures could not be drawn: {error}"
        if isinstance(error, DamagedError):  # reported on stderr as a failed run
            out.print(why, soft_wrap=True)
        else:
            say_error(why)
        return {"figures": [], "figures_skipped": {"all": str(error)}}
    if drawn.paths:
        out.print(f"{count(len(drawn.paths), 'figure file')} in {folder.figures_path()}", soft_wrap=True)
    for name, why in drawn.skipped.items():
        out.print(f"figure {name} is skipped: {why}", soft_wrap=True)
    return {"figures": [str(path) for path in drawn.paths], "figures_skipped": drawn.skipped}


def say_summary(
    folder: StudyFolder, study: StudySpec, outcome: Outcome, errors: Sequence[FinalError], out: Console
) -> None:
    """Print the final errors, the labels and how the runs ended; each failed run in one line on stderr."""
    if errors:
        out.print("\nfinal clean training error, mean over seeds, by the batch norm's statistics")
        out.print(errors_table(errors))
    if proof := sentence(matches(folder, study)):
        out.print(proof)
    for label in study.labels:
        out.print(label, style="yellow")
    out.print(f"{count(len(outcome.finished), 'run')} finished in {folder.path}", soft_wrap=True)
    if outcome.finished:
        say_answer(folder, out)
        out.print(f"verdicts, intervals and figures on one page: {report_line(folder)}", soft_wrap=True)
    for run_id in outcome.diverged:
        out.print(f"{run_id} diverged: its loss became infinite or not a number", style="yellow", soft_wrap=True)
    for run_id, why in outcome.failed.items():
        say_error(f"{run_id} failed: {why}")


def say_answer(folder: StudyFolder, out: Console) -> None:
    """Print the answer of the study; nothing if files cannot be read, which is reported elsewhere."""
    from degradation.analysis import analyse  # importing statistics takes a while: not before the training
    from degradation.study.results import Results

    try:
        *answers, _ = analyse(Results(folder, skip_damaged=True)).answer
    except UserError:
        return
    for answer in answers:
        out.print(f"\n{answer}", style="bold")


def report_line(folder: StudyFolder) -> str:
    """The command that writes the study's report."""
    name = folder.name if folder.store.root == as_place(ROOT) else str(folder.path)
    return shlex.join(["degradation", "report", name])
