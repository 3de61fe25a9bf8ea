"""The command `load`: the frames of a study, as `degradation.load` reads them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from degradation.cli.exit_codes import DONE
from degradation.cli.options import JsonOption, Name, RootOption, SkipDamagedOption
from degradation.cli.validators import one_of
from degradation.errors import UserError
from degradation.study import library

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from degradation.study.results import Results

NAMED = 4
"""Number of different texts of a column that are listed."""


def load(
    name: Name,
    frame: Annotated[str | None, typer.Argument(metavar="[FRAME]", help="One frame, column by column.")] = None,
    columns: Annotated[
        list[str] | None, typer.Argument(metavar="[COLUMN ...]", help="Only these columns of the frame.")
    ] = None,
    skip_damaged: SkipDamagedOption = False,
    root: RootOption = library.ROOT,
    as_json: JsonOption = False,
) -> int:
    """Load the frames of a study and show their content, or the columns of one frame."""
    folder = library.locate(name, root)

    from degradation.cli.console import console
    from degradation.cli.json_output import print_json
    from degradation.cli.reading import results_of
    from degradation.study.results import NAMES

    wanted = None if frame is None else one_of("FRAME", frame, NAMES)
    results = results_of(folder, skip_damaged)
    if not results.run_ids:
        raise UserError(f"no run of {results.name} is done: nothing to load yet")
    if wanted is None:
        rows = [row for row in (frame_content(results, each) for each in NAMES) if row["rows"]]
    else:
        rows = [column_content(column) for _, column in selected(results, wanted, columns).items()]
    if as_json:
        print_json(rows)
    else:
        console().print(columns_table(rows) if wanted else frames_table(rows))
        console().print(f'in Python: degradation.load("{folder.path}")["{wanted or "curves"}"]', soft_wrap=True)
    return DONE


def frame_content(results: "Results", name: str) -> dict[str, Any]:
    """The numbers of rows and runs of a frame, and its measured columns; no value is read."""
    runs = results.frame(name, ())["run_id"]
    return {"frame": name, "rows": len(runs), "runs": runs.nunique(), "columns": results.columns(name)}


def selected(results: "Results", name: str, columns: Sequence[str] | None) -> "pd.DataFrame":
    """The frame, or some of its columns. UserError if it has no such column, or no row yet."""
    known = results.columns(name)
    names = [one_of("COLUMN", column, known) for column in columns or () if known]
    data = results.frame(name, names) if names else results[name]
    if data.empty:
        from degradation.figures.tidy import missing_for  # matplotlib comes with it

        raise UserError(f"frame {name} of {results.name} has no rows: it {missing_for(results, name)}")
    return data


def column_content(column: "pd.Series[Any]") -> dict[str, Any]:
    """A column's content: minimum, median and maximum of numbers; number of different texts, and the first few."""
    import pandas as pd

    values = column.dropna()
    content: dict[str, Any] = {"column": column.name, "values": len(values), "missing": len(column) - len(values)}
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        measures = {"least": values.min(), "median": values.median(), "greatest": values.max()} if len(values) else {}
        return content | {name: value.item() for name, value in measures.items()}
    texts = [str(text) for text in values.unique()]
    return content | {"different": len(texts), "first": texts[:NAMED]}


def frames_table(rows: Sequence[Mapping[str, Any]]) -> "Table":
    """One row per frame."""
    from degradation.cli.console import new_table

    table = new_table("frame", "rows", "runs", "measured columns", right=("rows", "runs"))
    for row in rows:
        listed = f"{len(row['columns'])}, one row a run" if row["frame"] == "runs" else ", ".join(row["columns"])
        table.add_row(row["frame"], f"{row['rows']:,}", f"{row['runs']:,}", listed)
    return table


def columns_table(rows: Sequence[Mapping[str, Any]]) -> "Table":
    """One row per column of a frame."""
    from degradation.cli.console import new_table

    table = new_table("column", "values", "missing", "content", right=("values", "missing"))
    for row in rows:
        table.add_row(row["column"], f"{row['values']:,}", f"{row['missing']:,}", described(row))
    return table


def described(row: Mapping[str, Any]) -> str:
    """``0 to 64000, median 320``; ``3`` if all are 3; ``plain, residual``; ``12 different: a, b, c, d, ...``."""
    if "median" in row:
        if row["least"] == row["greatest"]:
            return f"{row['median']:.6g}"
        return f"{row['least']:.6g} to {row['greatest']:.6g}, median {row['median']:.6g}"
    first = ", ".join(row.get("first", ()))
    return f"{row['different']:,} different: {first}, ..." if row.get("different", 0) > NAMED else first
