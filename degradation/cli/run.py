"""The command `run`: train the pending runs of a study."""

from typing import Annotated

from degradation.cli import options
from degradation.cli.exit_codes import DONE, RUN_FAILED
from degradation.cli.options import FormatsOption, JsonOption, Target, YesOption, flag, formats_of
from degradation.cli.parser import spread


@spread
def run(
    target: Target = None,
    *,
    study_options: options.StudyOptions,
    machine: options.MachineOptions,
    format: FormatsOption = None,
    no_figures: Annotated[bool, flag("--no-figures", "Draw no figures at the end.")] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> int:
    """Train the pending runs of a study, then draw its figures. Run it again to continue."""
    from degradation.cli.console import console, say_plan
    from degradation.cli.json_output import outcome_document, print_json
    from degradation.cli.resolve import resolve_study
    from degradation.cli.train import draw_all, say_summary, train
    from degradation.study.snapshot import StudySnapshot
    from degradation.study.status import final_errors, run_statuses
    from degradation.training.coordinator import leading

    out = console(stderr=as_json)
    machine_options, formats = machine.checked(study_options.folder), formats_of(format)
    with leading() as leads:
        if not leads:
            return DONE
        study_folder, study = resolve_study(target, study_options, machine_options, out)
        folder = StudySnapshot(study_folder)  # the hash of each file is checked only once
        say_plan(out, folder.name, study, run_statuses(folder, study))
        outcome = train(folder, study, machine_options, out, ask=not yes)
    folder.look_again()
    drawn = {} if no_figures else draw_all(folder, formats, out)
    errors = final_errors(folder, study)
    say_summary(folder, study, outcome, errors, out)
    if as_json:
        print_json(outcome_document(folder, study, outcome, errors) | drawn)
    return RUN_FAILED if outcome.failed else DONE
