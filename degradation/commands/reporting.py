"""The commands that say what studies found: `report` of one, `compare` of two."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from degradation import studies
from degradation.commands.endings import DONE
from degradation.commands.options import JsonOption, Name, RootOption

if TYPE_CHECKING:
    from degradation.report.files import Report

OtherName = Annotated[str, typer.Argument(metavar="OTHER", help="The study to compare with it.")]


def report(
    name: Name,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Default: the study's folder.")] = None,
    root: RootOption = studies.ROOT,
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Write report.html and report.md: verdicts, proof that the pairs match, figures, estimates."""
    folder = studies.locate(name, root)

    from degradation.commands.console import console
    from degradation.commands.documents import print_json
    from degradation.commands.rerunning import rerun
    from degradation.report.files import write
    from degradation.results import Results

    results = Results(folder)
    again = rerun(results.name, results.study, results.provenance)
    written = write(results, out or folder.path, again)
    if as_json:
        print_json(report_document(written))
    else:
        say = console().print
        for sentence in written.contents.analysis.answer:
            say(sentence)
        for path in (written.page, written.twin):
            say(path, soft_wrap=True)
    if show:
        typer.launch(written.page.resolve().as_uri())
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
        "missing": it.missing,
        "matched_pairs": asdict(it.proof),
        "analysis": it.analysis.as_json(),
        "provenance": it.provenance,
    }


def compare(
    name: Name,
    other: OtherName,
    root: RootOption = studies.ROOT,
    as_json: JsonOption = False,
) -> int:
    """Show the same estimates of two studies side by side, with the difference; refused where they do not match."""
    first, second = studies.locate(name, root), studies.locate(other, root)

    from degradation import analysis
    from degradation.commands.console import comparison_table, console
    from degradation.commands.documents import print_json
    from degradation.results import Results

    found = analysis.compare(Results(first), Results(second))
    if as_json:
        print_json({"a": first.name, "b": second.name} | found.as_json())
        return DONE
    out = console()
    for field, (a, b) in found.differing.items():
        out.print(f"{field}: {a} in {first.name}, {b} in {second.name}")
    if not found.differing:
        out.print("the studies differ in no field")
    out.print(comparison_table(found, first.name, second.name))
    return DONE
