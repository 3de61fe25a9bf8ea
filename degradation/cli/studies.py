"""The command `studies`: the shipped studies."""

from degradation.cli.exit_codes import DONE
from degradation.cli.options import JsonOption
from degradation.study import library


def studies(as_json: JsonOption = False) -> int:
    """List the shipped studies, with the question of each and the path of its result."""
    from degradation.cli.console import console, questions_table
    from degradation.cli.json_output import print_json

    paths, reports = library.shipped(), library.reported()
    questions = {name: library.question(path) for name, path in paths.items()}
    if as_json:
        links = {name: str(reports[name]) if name in reports else None for name in paths}
        print_json([{"name": n, "question": questions[n], "path": str(paths[n]), "report": links[n]} for n in paths])
    else:
        console().print(questions_table(questions, reports))
    return DONE
