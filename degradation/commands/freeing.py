"""The command that deletes: `clean` shows what can be freed, asks, and removes it."""

import sys
from typing import Annotated

import typer

from degradation import studies
from degradation.commands.endings import DONE
from degradation.commands.options import Name, RootOption, YesOption
from degradation.errors import UseError


def clean(
    name: Name,
    run: Annotated[str | None, typer.Option(metavar="RUN_ID", help="Delete this run wholly.")] = None,
    whole: Annotated[bool, typer.Option("--all", help="Delete the whole study.")] = False,
    yes: YesOption = False,
    root: RootOption = studies.ROOT,
) -> int:
    """Show what can be freed, ask, and delete it: leftovers, one run, or a whole study."""
    from degradation.commands import cleaning
    from degradation.commands.console import console, items_table
    from degradation.commands.numbers import size

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
