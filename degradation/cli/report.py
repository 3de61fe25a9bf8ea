"""The command `report`: the results of a study on one page."""

import shlex
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from degradation.cli.exit_codes import DONE
from degradation.cli.options import JsonOption, Name, RootOption, SkipDamagedOption
from degradation.errors import UserError
from degradation.store import Url, as_place
from degradation.study import library

if TYPE_CHECKING:
    from degradation.report.files import ReportFiles


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
        raise UserError(f"--open: a browser cannot open {where}: remove it, or write the page here with --out DIR")

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
        say_error(f"--open: no browser found; the page is {written.page}")
    return DONE


def report_document(written: "ReportFiles") -> dict[str, Any]:
    """The path of the report, and its content in numbers and words."""
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
