"""The command line: arguments -> the command, an exit status, and usage errors in one line.

Modules that need tables, pandas or torch are imported inside the commands, so that the help is instant.
"""

import io
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from degradation._version import __version__
from degradation.cli.clean import clean
from degradation.cli.compare import compare
from degradation.cli.exit_codes import BROKEN_PIPE, DONE, INTERRUPTED, RUN_FAILED, USE_ERROR
from degradation.cli.experiment import experiment
from degradation.cli.export import export
from degradation.cli.load import load
from degradation.cli.logs import logs
from degradation.cli.parser import MultiValueCommand, preceding_option
from degradation.cli.plan import plan
from degradation.cli.plot import plot
from degradation.cli.probe import probe
from degradation.cli.report import report
from degradation.cli.run import run
from degradation.cli.status import status
from degradation.cli.streams import let_go, tolerant_streams
from degradation.cli.studies import studies
from degradation.errors import DamagedRun, Interrupted, ProcessGroupLost, UnknownStudy, UserError
from degradation.runtime.distributed import here, launching
from degradation.spec.validation import suggestion

COMMANDS: list[Callable[..., int]] = [run, plan, status, logs, load, experiment, plot]
COMMANDS += [report, compare, export, probe, clean, studies]
"""Every command, in the order of the help."""
LIKE, NEAR = 0.6, 0.85
"""Similarity (difflib's ratio) above which one option is taken for a typing error of another; the second if another
command has the option that was typed."""
LONGEST = 4000
"""Greatest length of an argument in characters: the longest path on Linux."""
FORMER = {"mechanism": "experiment"}
"""Names of commands in version 0.1; they are not in the help."""
SKIPPING = ("load", "plot", "report", "compare", "export")
"""Commands that can skip damaged runs."""


class ReaderGone(Exception):
    """The reader of stdout has closed it."""


class Commands(TyperGroup):
    """The commands. A closed pipe has its own exit status: typer's would be 1, which means a failed run."""

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


for command in COMMANDS:
    app.command(command.__name__, cls=MultiValueCommand)(command)


# From arguments to an exit status


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit with its status: 0 done, 1 a run failed, 2 usage error, 130/143 interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    with tolerant_streams() as out:
        try:
            status = _execute(arguments) if here().rank == 0 else _execute_with_group(arguments)
            out.flush()
        except (ReaderGone, BrokenPipeError):  # stdout is closed
            let_go(out)
            status = BROKEN_PIPE
        if out.lost is not None:
            let_go(out)
            status = status or _print_error(f"stdout: {out.lost.strerror}: the output is lost", USE_ERROR)
    sys.exit(status)


def _execute_with_group(arguments: list[str]) -> int:
    """The exit status of a rank other than 0: it takes part in ``run`` without output, and does nothing else."""
    if arguments[:1] != ["run"]:
        return DONE
    with redirect_stdout(io.StringIO()):
        return _execute(arguments)


def _execute(arguments: list[str]) -> int:
    """The exit status of the command; each error is printed in one line."""
    try:
        _check_lengths(arguments)
        if arguments and (new_name := FORMER.get(arguments[0])):
            _print_error(f"{arguments[0]} is now called {new_name}", DONE)
            arguments = [new_name, *arguments[1:]]
        command: Any = typer.main.get_command(app)
        returned = command.main(args=arguments, prog_name="degradation", standalone_mode=False)
        if returned == INTERRUPTED:  # newer versions of typer turn a KeyboardInterrupt into this, without a message
            raise KeyboardInterrupt
        return returned if isinstance(returned, int) else DONE
    except DamagedRun as error:
        hint = "; --skip-damaged continues without it" if arguments[0] in SKIPPING else ""
        return _print_error(f"{error}{hint}", USE_ERROR)
    except UnknownStudy as error:
        option = preceding_option(arguments, error.name)
        return _print_error(f"{error}{f'; or is it a value of {option}?' if option else ''}", USE_ERROR)
    except UserError as error:
        return _print_error(str(error), USE_ERROR) if not here().rank else USE_ERROR
    except ProcessGroupLost as error:
        return _print_error(str(error), RUN_FAILED) if error.own else RUN_FAILED
    except Interrupted as error:
        again = f"{launching(here())} {shlex.join(arguments)}"
        return _print_error(f"interrupted; the same command continues it: {again}", error.status)
    except (KeyboardInterrupt, typer.Abort):
        return _print_error("Interrupted. Completed work is saved.", INTERRUPTED)
    except Exception as error:
        # Errors of the parser: their class is click's or typer's copy of it, so they are recognized by a method.
        if not hasattr(error, "format_message"):
            raise
        return _print_error(_explained(error), USE_ERROR) if not here().rank else USE_ERROR


def _check_lengths(arguments: Sequence[str]) -> None:
    """UserError for an argument longer than any name or number: Python reads no integer of that many digits."""
    for argument in arguments:
        if len(argument) > LONGEST:
            raise UserError(f"{argument[:20]}...: expected at most {LONGEST:,} characters, not {len(argument):,}")


def _explained(error: Any) -> str:
    """The parser's message; for an unknown option also the similar one, or the commands that have it."""
    if not hasattr(error, "possibilities"):  # of an unknown option alone
        return str(error.format_message())
    group: Any = typer.main.get_command(app)
    option, command = error.option_name, error.ctx.info_name
    options = {n: [o for p in c.params for o in (*p.opts, *p.secondary_opts)] for n, c in group.commands.items()}
    owners = [name for name, names in options.items() if option in names]
    # An option of another command counts as a typing error only if the two are nearly the same.
    if hint := suggestion(option, options.get(command, ()), NEAR if owners else LIKE):
        return f"{command} has no option {option}{hint}"
    if not owners or command not in group.commands:
        return str(error.format_message())
    return f"{command} has no option {option}, which belongs to {', '.join(owners)}: remove it"


def _print_error(message: str, status: int) -> int:
    from degradation.cli.console import say_error

    say_error(message)
    return status
