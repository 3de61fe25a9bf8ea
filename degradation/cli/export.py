"""The command `export`: the frames of a study, each in a file."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from degradation.cli.exit_codes import DONE
from degradation.cli.options import Name, RootOption, SkipDamagedOption, value
from degradation.errors import UserError
from degradation.store import Place, store_at
from degradation.study import library

if TYPE_CHECKING:
    from degradation.study.results import Results


def export(
    name: Name,
    format: Annotated[str, value("csv|parquet", "File format.")] = "csv",
    out: Annotated[str | None, value("DIR", "Default: NAME/export.")] = None,
    skip_damaged: SkipDamagedOption = False,
    root: RootOption = library.ROOT,
) -> int:
    """Write every frame of a study into one file each and print their paths."""
    folder = library.locate(name, root)
    if format not in ("csv", "parquet"):
        raise UserError(f"--format: expected csv or parquet, not {format!r}")

    from degradation.cli.reading import results_of

    for path in export_frames(results_of(folder, skip_damaged), format, out or folder.path / "export"):
        typer.echo(path)
    return DONE


def export_frames(results: "Results", format: str, folder: str | Path) -> Iterator[Place]:
    """Write every frame that has rows as ``NAME.csv`` or ``NAME.parquet``; yields the paths.

    Raises UserError if no run is done, or if the folder cannot be written.
    """
    from degradation.frames.schemas import to_csv, to_parquet

    if not results.run_ids:
        raise UserError(f"no run of {results.name} is done: nothing to export yet")
    store = store_at(folder)
    for name, data in results.items():
        if len(data):
            file = f"{name}.{format}"
            content = to_csv(data) if format == "csv" else to_parquet(data, results.provenance)
            store.write(file, content)
            yield store.root / file
