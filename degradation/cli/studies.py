"""The command `studies`: the shipped studies."""

from degradation.cli.exit_codes import DONE
from degradation.cli.options import JsonOption
from degradation.study import library


def studies(as_json: JsonOption = False) -> int:
    """List the shipped studies, with the question of each and the path of its result."""
    from degradation.cli.console import console, questions_table
    from degradation.cli.json_output import print_json

    found = {name: (path, library.read(path)) for name, path in library.shipped().items()}
    reports = library.reported()
    if as_json:
        links = {name: str(reports[name]) if name in reports else None for name in found}
        named = ((name, path, study.question) for name, (path, study) in found.items())
        print_json([{"name": n, "question": q, "path": str(path), "report": links[n]} for n, path, q in named])
    else:
        console().print(questions_table({name: study.question for name, (_, study) in found.items()}, tuple(reports)))
    return DONE
