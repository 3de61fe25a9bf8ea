"""The command `plan`: what a study would train."""

from degradation.cli import options
from degradation.cli.exit_codes import DONE
from degradation.cli.options import JsonOption, Target
from degradation.cli.parser import spread


@spread
def plan(
    target: Target = None,
    *,
    study_options: options.StudyOptions,
    machine: options.MachineOptions,
    as_json: JsonOption = False,
) -> int:
    """Show what a study would train, and which runs are done. Trains and writes nothing."""
    from degradation.cli.console import console, say_plan
    from degradation.cli.json_output import plan_document, print_json
    from degradation.cli.resolve import resolve_study
    from degradation.study.status import run_statuses

    out = console(stderr=as_json)
    folder, study = resolve_study(target, study_options, machine.checked(study_options.folder), out)
    statuses = run_statuses(folder, study)
    if as_json:
        print_json(plan_document(folder, study, statuses))
    else:
        say_plan(out, folder.name, study, statuses)
    return DONE
