"""Target, options, what is on disk and a time budget -> the folder and the study that a command is about."""

from rich.console import Console

from degradation import studies
from degradation.commands.options import StudyOptions, seconds
from degradation.environment import Options, choose_environment
from degradation.errors import UseError
from degradation.spec import StudySpec
from degradation.store import StudyFolder


def settle(target: str | None, asked: StudyOptions, where: Options, out: Console) -> tuple[StudyFolder, StudySpec]:
    """The folder and the study: the target, the options over it, the budget's steps, what is on disk."""
    from degradation import runner

    if where.capture:
        choose_environment(where, "auto", jobs=1)  # what is not there is said now, not once steps are timed
    fields, said = asked.fields()
    if target is None and not fields:
        raise UseError(
            "nothing to study: expected a study (degradation studies lists them) or options such as --depths"
        )
    if asked.budget is not None and "recipe.steps" in fields:
        raise UseError(f"--budget: it chooses the steps, and {said['recipe.steps']} gives them: leave one out")
    resolved = studies.resolve(target, fields, said=said, root=asked.root, name=asked.name)
    folder = StudyFolder(asked.root, resolved.name)
    study = resolved.study
    if asked.budget is not None:
        study = _within_budget(folder, study, seconds(asked.budget), where, out)
    return folder, runner.grow(folder, study)


def _within_budget(folder: StudyFolder, study: StudySpec, budget: float, where: Options, out: Console) -> StudySpec:
    """The study with the steps that fit; one that is on disk keeps its own."""
    from degradation import runner

    own = [name for name, arm in study.arms.items() if "steps" in arm.get("recipe", {})]
    if own:
        raise UseError(f"--budget: it chooses the steps of all runs, and arm {own[0]} gives its own: leave it out")
    if folder.study() is not None:
        steps = studies.stored(folder).recipe.steps
        out.print(f"--budget is set aside: {folder.name} is on disk with {steps:,} steps and keeps them")
    else:
        out.print("timing a few steps to choose how many fit the budget ...")
        steps = runner.time_costs(study, where).steps_within(study, budget)
    return studies.override(study, {"recipe.steps": steps}, {"recipe.steps": f"--budget ({steps} steps)"})
