"""The command `plot`: figures of a study."""

from typing import Annotated

import typer

from degradation.cli.exit_codes import DONE
from degradation.cli.options import FormatsOption, Name, RootOption, SkipDamagedOption, formats_of, value
from degradation.study import library


def plot(
    name: Name,
    figures: Annotated[list[str] | None, typer.Argument(metavar="[FIGURE ...]", help="Default: all.")] = None,
    format: FormatsOption = None,
    out: Annotated[str | None, value("DIR", "Default: the study's folder.")] = None,
    skip_damaged: SkipDamagedOption = False,
    root: RootOption = library.ROOT,
) -> int:
    """Draw figures of a study from its done runs and print their paths."""
    folder, formats = library.locate(name, root), formats_of(format)

    from degradation.cli.reading import results_of
    from degradation.figures import draw
    from degradation.report.marks import marks

    results = results_of(folder, skip_damaged)
    drawn = draw(results, figures or (), formats, out or folder.figures_path(), marks(results))
    for path in drawn.paths:
        typer.echo(path)
    for figure, why in drawn.skipped.items():
        typer.echo(f"{figure} is skipped: {why}", err=True)
    return DONE
