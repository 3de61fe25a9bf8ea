"""The command `report`: the results of a study on one page."""

import shlex
import webbrowser
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from degradation.cli.exit_codes import DONE
from degradation.cli.options import JsonOption, Name, RootOption, SkipDamagedOption, flag, value
from degradation.errors import UserError
from degradation.store import Url, as_place
from degradation.study import library

if TYPE_CHECKING:
    from degradation.report.files import ReportFiles


def report(
    name: Name,
    out: Annotated[str | None, value("DIR", "Default: the study's folder.")] = None,
    skip_damaged: SkipDamagedOption = False,
    root: RootOption = library.ROOT,
    show: Annotated[bool, flag("--open", "Open the page in the browser.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Write report.html and report.md: verdicts, proof that the pairs match, figures, estimates."""
    folder = library.locate(name, root)
    destination = as_place(out or folder.path)
    if show and isinstance(destination, Url):
        raise UserError(
            f"--open: a browser cannot open {destination}: remove it, or write the page here with --out DIR"
        )

    from degradation.cli.console import console, say_error
    from degradation.cli.json_output import print_json
    from degradation.cli.reading import results_of
    from degradation.cli.reproduce import rerun
    from degradation.report.files import write

    results = results_of(folder, skip_damaged)
    files = write(results, destination, rerun(results.name, results.study, results.provenance))
    if as_json:
        print_json(report_document(files))
    else:
        out_console = console()
        for sentence in files.contents.analysis.answer:
            out_console.print(sentence)
        for path in (files.page, files.twin):
            out_console.print(path, soft_wrap=True)
    if show and not webbrowser.open(Path(files.page).resolve().as_uri()):
        say_error(f"--open: no browser found; the page is {files.page}")
    return DONE


def report_document(files: "ReportFiles") -> dict[str, Any]:
    """The path of the report, and its content in numbers and words."""
    contents = files.contents
    return {
        "name": contents.name,
        "question": contents.question,
        "labels": contents.labels,
        "page": str(files.page),
        "markdown": str(files.twin),
        "again": shlex.join(contents.again),
        "left_out": contents.left_out,
        "matched_pairs": asdict(contents.proof),
        "analysis": contents.analysis.as_json(),
        "provenance": contents.provenance,
    }
