"""Target, options, the study on disk and a time budget -> the folder and the study of a command."""

from rich.console import Console

from degradation.cli.options import StudyOptions
from degradation.cli.validators import seconds
from degradation.errors import UserError
from degradation.runtime.distributed import here
from degradation.runtime.environment import Options, choose_environment
from degradation.spec import StudySpec, grid
from degradation.store import StudyFolder
from degradation.study import library


def resolve_study(
    target: str | None, study_options: StudyOptions, options: Options, out: Console
) -> tuple[StudyFolder, StudySpec]:
    """The folder and the study: the options override the target, then the study on disk and the budget are applied."""
    from degradation.launchers import runner

    if options.capture and options.launcher == "local":
        choose_environment(options, "auto", jobs=1)  # reports a missing device now, not after the timing of steps
    fields, option_by_field = study_options.fields()
    if target is None and not fields:
        raise UserError(
            "nothing to study: expected a study (degradation studies lists them) or options such as --depths"
        )
    if study_options.budget is not None and "recipe.steps" in fields:
        raise UserError(f"--budget: it chooses the steps, and {option_by_field['recipe.steps']} gives them: remove one")
    resolved = library.resolve(
        target, fields, option_by_field=option_by_field, root=study_options.root, name=study_options.name
    )
    folder = StudyFolder(study_options.root, resolved.name)
    study = library.with_images(resolved.study, folder, options.data_dir, lambda line: out.print(line, soft_wrap=True))
    if "recipe.ghost_batches" not in fields and study.recipe.ghost_batches == 1:
        study = _with_ghost_batches(folder, study, options, out)
    if study_options.budget is not None:
        study = _within_budget(folder, study, seconds(study_options.budget), options, out)
    return folder, runner.grow(folder, study)


def _with_ghost_batches(folder: StudyFolder, study: StudySpec, options: Options, out: Console) -> StudySpec:
    """The study with the ghost batches it was started with; a new one with as many as torchrun has processes.

    Each process normalizes its own part of a batch, and the study records that.
    """
    field, count = "recipe.ghost_batches", here().count
    if folder.study() is not None:
        begun = library.stored(folder).recipe.ghost_batches
        return library.override(study, {field: begun}, {field: "the study on disk"})
    if count == 1 or options.sync_batch_norm or all(run.norm != "batch" for run in grid.runs(study)):
        return study
    study = library.override(study, {field: count}, {field: f"{count} processes"})
    out.print(f"{field} = {count}: each of {count} processes normalizes its own part of a batch")
    return study


def _within_budget(folder: StudyFolder, study: StudySpec, budget: float, options: Options, out: Console) -> StudySpec:
    """The study with the steps that fit; a study on disk keeps its own."""
    from degradation.launchers import runner

    if arms := [name for name, arm in study.arms.items() if "steps" in arm.get("recipe", {})]:
        raise UserError(f"--budget: it chooses the steps of all runs, and arm {arms[0]} gives its own: remove it")
    if folder.study() is not None:
        steps = library.stored(folder).recipe.steps
        out.print(f"--budget is ignored: {folder.name} is on disk with {steps:,} steps and keeps them")
    else:
        out.print("timing a few steps to choose how many fit the budget ...")
        steps = runner.time_costs(study, options).steps_within(study, budget)
    return library.override(study, {"recipe.steps": steps}, {"recipe.steps": f"--budget ({steps} steps)"})
