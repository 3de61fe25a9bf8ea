"""The command `logs`: the training log of a run."""

from typing import Annotated

import typer

from degradation.cli.exit_codes import DONE
from degradation.cli.options import Name, RootOption
from degradation.store import StudyFolder
from degradation.study import library


def logs(
    name: Name,
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="A run's id, or its beginning: residual-A-56-s0; default: list all."),
    ] = None,
    root: RootOption = library.ROOT,
) -> int:
    """Show the training log of a run: every attempt, where it ran, its rows, warnings and traceback."""
    from degradation.cli.console import console
    from degradation.spec import grid
    from degradation.study import run_logs

    folder = library.locate(name, root)
    if run is None:
        return _list(folder)
    arms = {spec.run_id: arm for spec, arm in grid.arms(library.stored(folder)).items()}
    run_id, out = run_logs.find(folder, run, arms), console()
    attempts = run_logs.attempts(run_logs.read(folder, run_id))
    if not attempts:
        out.print(f"no log of {run_id}: no worker has started it, or its log was deleted", soft_wrap=True)
    elif len(attempts) > 1:
        out.print(f"{len(attempts)} attempts at {run_id} so far", soft_wrap=True)
    for number, (attempt, text) in enumerate(attempts, start=1):
        out.print(f"attempt {number}: {attempt}", style="bold", soft_wrap=True)
        out.print(text, soft_wrap=True)
    return DONE


def _list(folder: StudyFolder) -> int:
    """Print the runs that have a log, each with its last attempt: time, node and process."""
    from degradation.cli.console import console
    from degradation.study import run_logs

    out, run_ids = console(), run_logs.logged(folder)
    if not run_ids:
        out.print(f"no run of {folder.name} has a log", soft_wrap=True)
    for run_id in run_ids:
        names = run_logs.names(folder, run_id) or (run_logs.NOTE,)  # none if killed before it wrote anything
        attempts = run_logs.attempts(dict.fromkeys(names, ""))
        name, _ = attempts[-1]
        last = "without a log" if name.endswith(run_logs.NOTE) else f"the last {name}"
        out.print(f"{run_id}  attempts {len(attempts)}, {last}", soft_wrap=True)
    return DONE
