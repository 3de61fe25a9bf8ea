"""The command `compare`: the same estimates of two studies."""

from itertools import groupby
from typing import TYPE_CHECKING

from degradation.cli.exit_codes import DONE
from degradation.cli.options import JsonOption, Name, OtherName, RootOption, SkipDamagedOption
from degradation.study import library

if TYPE_CHECKING:
    from rich.table import Table

    from degradation.analysis import StudyComparison
    from degradation.analysis.estimates import ComparedEstimate


def compare(
    name: Name,
    other: OtherName,
    skip_damaged: SkipDamagedOption = False,
    root: RootOption = library.ROOT,
    as_json: JsonOption = False,
) -> int:
    """Show the same estimates of two studies side by side, with the difference; refused where they do not match."""
    first, second = library.locate(name, root), library.locate(other, root)

    from degradation import analysis
    from degradation.analysis.formatting import field_value
    from degradation.cli.console import console
    from degradation.cli.json_output import print_json
    from degradation.cli.reading import results_of

    comparison = analysis.compare(results_of(first, skip_damaged), results_of(second, skip_damaged))
    if as_json:
        print_json({"a": str(first.path), "b": str(second.path)} | comparison.as_json())
        return DONE
    out = console()
    out.print(f"a: {first.path}\nb: {second.path}", soft_wrap=True)
    out.print("they differ in no field but name" if not comparison.differing else "they differ in")
    for field, (a, b) in comparison.differing.items():
        out.print(f"  {field}: {field_value(a)} and {field_value(b)}")
    out.print(comparison_table(comparison))
    for sentence in comparison.left_out:
        out.print(sentence, style="yellow", soft_wrap=True)
    out.print("difference: b minus a, for factors b over a; 95 % intervals")
    return DONE


def comparison_table(comparison: "StudyComparison") -> "Table":
    """The same estimates of two studies, a section for each kind of estimate, and their differences."""
    from degradation.cli.console import new_table
    from degradation.report.tables import value_of

    table = new_table("what", "a", "b", "difference")
    for kind, rows in groupby(comparison.rows, key=_kind):
        table.add_section()
        table.add_row(kind, style="bold")
        for row in rows:
            table.add_row(row.label, *(value_of(estimate) for estimate in (row.a, row.b, row.difference)))
    return table


def _kind(row: "ComparedEstimate") -> str:
    """``final error, train running``, or the name and ``weights``."""
    name, context = row.a.name.replace("-", " "), row.a.context
    return f"{name}, {context.get('split', 'weights')} {context.get('statistics', '')}".strip()
