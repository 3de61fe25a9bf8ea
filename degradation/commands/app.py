"""The command line: arguments -> what is asked for, an exit status, and errors of use in one line.

Modules that need tables, pandas or torch are imported inside the commands, so that the help is instant.
"""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from degradation import studies
from degradation.commands import options
from degradation.commands.options import FormatsOption, JsonOption, MaybeName, Name, RootOption, Target, YesOption
from degradation.commands.tokens import FORMATS, MultiValueCommand, spread
from degradation.errors import Interrupted, UseError
from degradation.refusals import suggestion
from degradation.store import StudyFolder
from degradation.version import __version__

DONE, RUN_FAILED, USE_ERROR, INTERRUPTED = 0, 1, 2, 130
BROKEN_PIPE = 141  # 128 + SIGPIPE: what a shell reports of a program whose reader went away
DEFAULT_FORMATS = ["png", "svg"]


class ReaderGone(Exception):
    """Whoever read stdout has closed it."""


class Commands(TyperGroup):
    """The commands, with a closed pipe told apart: typer itself would end with 1, which means a failed run."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise ReaderGone from None


app = typer.Typer(cls=Commands, rich_markup_mode="rich")


@app.callback(invoke_without_command=True)
def top(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """Train matched plain and residual networks, record what happens inside them, and draw figures."""
    if version:
        typer.echo(f"degradation {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(cls=MultiValueCommand)
@spread
def run(
    target: Target = None,
    *,
    asked: options.StudyOptions,
    machine: options.MachineOptions,
    format: FormatsOption = None,
    no_figures: Annotated[bool, typer.Option("--no-figures", help="Draw nothing at the end.")] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> int:
    """Train what is pending of a study, then draw its figures. Run again, it continues."""
    from degradation.commands.console import console, say_plan
    from degradation.commands.documents import outcome_document, print_json
    from degradation.commands.session import draw_all, say_summary, train
    from degradation.commands.settling import settle
    from degradation.standing import final_errors, standings

    out = console(stderr=as_json)
    where, formats = machine.checked(), _formats(format)
    folder, study = settle(target, asked, where, out)
    say_plan(out, folder.name, study, standings(folder, study))
    outcome = train(folder, study, where, out, ask=not yes)
    drawn = {} if no_figures else draw_all(folder, formats, out)
    errors = final_errors(folder, study)
    say_summary(folder, study, outcome, errors, out)
    if as_json:
        print_json(outcome_document(folder, study, outcome, errors) | drawn)
    return RUN_FAILED if outcome.failed else DONE


@app.command(cls=MultiValueCommand)
@spread
def plan(
    target: Target = None,
    *,
    asked: options.StudyOptions,
    machine: options.MachineOptions,
    as_json: JsonOption = False,
) -> int:
    """Show what a study would train, and what of it is done. Trains and writes nothing."""
    from degradation.commands.console import console, say_plan
    from degradation.commands.documents import plan_document, print_json
    from degradation.commands.settling import settle
    from degradation.standing import standings

    out = console(stderr=as_json)
    folder, study = settle(target, asked, machine.checked(), out)
    found = standings(folder, study)
    if as_json:
        print_json(plan_document(folder, study, found))
    else:
        say_plan(out, folder.name, study, found)
    return DONE


@app.command()
def status(
    name: MaybeName = None,
    root: RootOption = studies.ROOT,
    as_json: JsonOption = False,
) -> int:
    """Show the studies on disk, or every run of one with its last measurement."""
    if name is None:
        _status_of_all(root, as_json)
    else:
        _status_of(studies.locate(name, root), as_json)
    return DONE


def _status_of_all(root: Path, as_json: bool) -> None:
    from degradation.commands.console import console, studies_table
    from degradation.commands.documents import print_json, studies_document
    from degradation.standing import standings

    folders = [StudyFolder(root, name) for name in studies.on_disk(root)]
    rows = [(folder.name, standings(folder, studies.stored(folder))) for folder in folders]
    if as_json:
        print_json(studies_document(rows))
    elif rows:
        console().print(studies_table(rows))
    else:
        console().print(f"no study under {root} yet: begin with degradation run quickstart")


def _status_of(folder: StudyFolder, as_json: bool) -> None:
    from degradation.commands.console import console, say_status
    from degradation.commands.documents import print_json, status_document
    from degradation.standing import last_row, standings

    study = studies.stored(folder)
    rows = [(standing, last_row(folder, standing)) for standing in standings(folder, study, verify=True)]
    if as_json:
        print_json(status_document(folder, study, rows))
    else:
        say_status(console(), folder.name, study, rows)


@app.command(cls=MultiValueCommand)
def plot(
    name: Name,
    figures: Annotated[list[str] | None, typer.Argument(metavar="[FIGURE ...]", help="Default: all.")] = None,
    format: FormatsOption = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Default: the study's folder.")] = None,
    root: RootOption = studies.ROOT,
) -> int:
    """Draw figures of a study from its done runs and print their paths."""
    folder, formats = studies.locate(name, root), _formats(format)

    from degradation.figures import draw
    from degradation.results import Results

    drawn = draw(Results(folder), figures or (), formats, out or folder.figures_path())
    for path in drawn.paths:
        typer.echo(path)
    for figure, why in drawn.skipped.items():
        typer.echo(f"{figure} is left out: {why}", err=True)
    return DONE


@app.command()
def export(
    name: Name,
    format: Annotated[str, typer.Option(metavar="csv|parquet", help="File format.")] = "csv",
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Default: NAME/export.")] = None,
    root: RootOption = studies.ROOT,
) -> int:
    """Write every frame of a study into one file each and print their paths."""
    folder = studies.locate(name, root)
    if format not in ("csv", "parquet"):
        raise UseError(f"--format: expected csv or parquet, not {format!r}")

    from degradation.commands.exporting import export_frames
    from degradation.results import Results

    for path in export_frames(Results(folder), format, out or folder.path / "export"):
        typer.echo(path)
    return DONE


@app.command()
def clean(
    name: Name,
    run: Annotated[str | None, typer.Option(metavar="RUN_ID", help="Delete this run wholly.")] = None,
    whole: Annotated[bool, typer.Option("--all", help="Delete the whole study.")] = False,
    yes: YesOption = False,
    root: RootOption = studies.ROOT,
) -> int:
    """Show what can be freed, ask, and delete it: leftovers, one run, or a whole study."""
    from degradation.commands import cleaning
    from degradation.commands.console import console, items_table, size

    folder, out = studies.locate(name, root), console()
    if run and whole:
        raise UseError("--run and --all: expected one of them")
    if run:
        items = cleaning.one_run(folder, run)
    else:
        items = cleaning.whole_study(folder) if whole else cleaning.leftovers(folder)
    if not items:
        out.print(f"nothing to free in {folder.path}")
        return DONE
    out.print(items_table(items))
    total = size(sum(item.size for item in items))
    if not yes and not (sys.stdin.isatty() and out.is_terminal):
        out.print(f"{total} could be freed; nothing is deleted without --yes")
        return DONE
    if not yes:
        typer.confirm(f"Delete these, {total}?", abort=True)
    for item in items:
        item.remove()
    out.print(f"{total} freed")
    return DONE


@app.command("studies")
def ships(as_json: JsonOption = False) -> int:
    """List the studies that ship, with the question of each."""
    from degradation.commands.console import console, questions_table
    from degradation.commands.documents import print_json

    found = {name: (path, studies.read(path)) for name, path in studies.shipped().items()}
    if as_json:
        print_json([{"name": n, "question": s.question, "path": str(path)} for n, (path, s) in found.items()])
    else:
        console().print(questions_table({name: study.question for name, (_, study) in found.items()}))
    return DONE


def _formats(asked: list[str] | None) -> list[str]:
    for format in asked or ():
        if format not in FORMATS:
            hint = suggestion(format, FORMATS)
            raise UseError(f"--format: expected {', '.join(FORMATS)}, not {format!r}{hint}")
    return list(dict.fromkeys(asked or DEFAULT_FORMATS))


# From arguments to an exit status


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The command; ends with an exit status: 0 done, 1 a run failed, 2 error of use, 130/143 interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = _carried_out(arguments)
        sys.stdout.flush()
    except (ReaderGone, BrokenPipeError):
        # Nobody reads stdout any more. Python flushes it once more at exit, which must not fail aloud.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = BROKEN_PIPE
    sys.exit(status)


def _carried_out(arguments: list[str]) -> int:
    try:
        command: Any = typer.main.get_command(app)
        returned = command.main(args=arguments, prog_name="degradation", standalone_mode=False)
        return returned if isinstance(returned, int) else DONE
    except UseError as error:
        return _say(str(error), USE_ERROR)
    except Interrupted as error:
        return _say(f"interrupted; the same command continues it: {_again(arguments)}", error.status)
    except (KeyboardInterrupt, typer.Abort):
        return _say("stopped; nothing that was done is lost", INTERRUPTED)
    except Exception as error:
        # The parser's own errors: their class is click's or typer's own copy, so a method tells them.
        if not hasattr(error, "format_message"):
            raise
        return _say(error.format_message(), USE_ERROR)


def _again(arguments: list[str]) -> str:
    return shlex.join(["degradation", *arguments])


def _say(message: str, status: int) -> int:
    from degradation.commands.console import say_error

    say_error(message)
    return status
