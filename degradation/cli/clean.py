"""The command `clean`: shows what can be deleted, asks, and deletes it."""

import sys
from typing import Annotated

import typer

from degradation.cli.exit_codes import DONE
from degradation.cli.options import Name, RootOption, YesOption, flag, value
from degradation.errors import UserError
from degradation.study import library


def clean(
    name: Name,
    run: Annotated[str | None, value("RUN_ID", "Delete this run and all its files.")] = None,
    weights: Annotated[bool, flag("--weights", "Delete the weights of done runs.")] = False,
    whole: Annotated[bool, flag("--all", "Delete the whole study.")] = False,
    yes: YesOption = False,
    root: RootOption = library.ROOT,
) -> int:
    """Show what can be freed, ask, and delete it: leftovers, weights, one run, or a whole study."""
    from degradation.cli.console import console, items_table
    from degradation.cli.formatting import size
    from degradation.study import cleanup

    folder, out = library.locate(name, root), console()
    given = [option for option, value in {"--run": run, "--weights": weights, "--all": whole}.items() if value]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)}: expected one of them")
    if run:
        items = cleanup.one_run(folder, run)
    else:
        find_items = cleanup.weights if weights else cleanup.whole_study if whole else cleanup.leftovers
        items = find_items(folder)
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
