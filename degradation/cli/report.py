"""The commands that say what studies found: `report` of one, `compare` of two."""

import shlex
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from degradation.cli.exit_codes import DONE
from degradation.cli.options import JsonOption, Name, OtherName, RootOption, SkipDamagedOption
from degradation.errors import UseError
from degradation.store import Url, as_place
from degradation.study import library

if TYPE_CHECKING:
    from rich.table import Table

    from degradation.analysis import StudyComparison
    from degradation.report.files import Report


def report(
    name: Name,
    out: Annotated[str | None, typer.Option(metavar="DIR", help="Default: the study's folder.")] = None,
    skip_damaged: SkipDamagedOption = False,
    root: RootOption = library.ROOT,
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Write report.html and report.md: verdicts, proof that the pairs match, figures, estimates."""
    folder = library.locate(name, root)
    where = as_place(out or folder.path)
    if show and isinstance(where, Url):
        raise UseError(f"--open: a browser does not read {where}: leave it out, or write the page here with --out DIR")

    from degradation.cli.console import console, say_error
    from degradation.cli.json_output import print_json
    from degradation.cli.reading import results_of
    from degradation.cli.reproduce import rerun
    from degradation.report.files import write

    results = results_of(folder, skip_damaged)
    again = rerun(results.name, results.study, results.provenance)
    written = write(results, where, again)
    if as_json:
        print_json(report_document(written))
    else:
        say = console().print
        for sentence in written.contents.analysis.answer:
            say(sentence)
        for path in (written.page, written.twin):
            say(path, soft_wrap=True)
    if show and not webbrowser.open(Path(written.page).resolve().as_uri()):
        say_error(f"--open: no browser was found here; the page is {written.page}")
    return DONE


def report_document(written: "Report") -> dict[str, Any]:
    """Where the report lies, and all that it says in numbers and words."""
    from dataclasses import asdict

    it = written.contents
    return {
        "name": it.name,
        "question": it.question,
        "labels": it.labels,
        "page": str(written.page),
        "markdown": str(written.twin),
        "again": shlex.join(it.again),
        "left_out": it.left_out,
        "matched_pairs": asdict(it.proof),
        "analysis": it.analysis.as_json(),
        "provenance": it.provenance,
    }


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
    from degradation.cli.console import console
    from degradation.cli.json_output import print_json
    from degradation.cli.reading import results_of

    found = analysis.compare(results_of(first, skip_damaged), results_of(second, skip_damaged))
    if as_json:
        print_json({"a": str(first.path), "b": str(second.path)} | found.as_json())
        return DONE
    out = console()
    out.print(f"a: {first.path}\nb: {second.path}", soft_wrap=True)
    out.print("they differ in no field but name" if not found.differing else "they differ in")
    for field, (a, b) in found.differing.items():
        out.print(f"  {field}: {in_words(a)} and {in_words(b)}")
    out.print(comparison_table(found))
    for sentence in found.left_out:
        out.print(sentence, style="yellow", soft_wrap=True)
    out.print("difference: b minus a, for factors b over a; 95 % intervals")
    return DONE


def in_words(value: Any) -> str:
    """A field's value: a list as its items, nothing as ``not set``."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "not set" if value is None else str(value)


def comparison_table(found: "StudyComparison") -> "Table":
    """The same estimates of two studies, a section for each kind of estimate, and their differences."""
    from degradation.cli.console import new_table
    from degradation.report.tables import value_of

    table = new_table("what", "a", "b", "difference")
    before = ""
    for row in found.rows:
        context = row.a.context
        kind = (
            f"{row.a.name.replace('-', ' ')}, {context.get('split', 'weights')} {context.get('statistics', '')}".strip()
        )
        if kind != before:
            table.add_section()
            table.add_row(kind, style="bold")
        before = kind
        table.add_row(row.label, *(value_of(estimate) for estimate in (row.a, row.b, row.difference)))
    return table
