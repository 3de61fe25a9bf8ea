"""Target, options, what is on disk and a time budget -> the folder and the study that a command is about."""

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
    target: str | None, asked: StudyOptions, options: Options, out: Console
) -> tuple[StudyFolder, StudySpec]:
    """The folder and the study: the options override the target; then the budget and the study on disk are applied."""
    from degradation.launchers import runner

    if options.capture and options.launcher == "local":
        choose_environment(options, "auto", jobs=1)  # a missing device is reported now, not after timing steps
    fields, option_by_field = asked.fields()
    if target is None and not fields:
        raise UserError(
            "nothing to study: expected a study (degradation studies lists them) or options such as --depths"
        )
    if asked.budget is not None and "recipe.steps" in fields:
        raise UserError(f"--budget: it chooses the steps, and {option_by_field['recipe.steps']} gives them: remove one")
    resolved = library.resolve(target, fields, option_by_field=option_by_field, root=asked.root, name=asked.name)
    folder = StudyFolder(asked.root, resolved.name)
    study = library.with_images(resolved.study, folder, options.data_dir, lambda line: out.print(line, soft_wrap=True))
    if "recipe.ghost_batches" not in fields:
        study = _shared(study, options, out) if folder.study() is None else _as_begun(study, library.stored(folder))
    if asked.budget is not None:
        study = _within_budget(folder, study, seconds(asked.budget), options, out)
    return folder, runner.grow(folder, study)


def _shared(study: StudySpec, options: Options, out: Console) -> StudySpec:
    """A new study for torchrun's processes: each normalizes its part of a batch, and the study records that.

    A study with its own ghost batches keeps them.
    """
    count = here().count
    normalizes = any(run.norm == "batch" for run in grid.runs(study))
    if count == 1 or options.sync_batch_norm or study.recipe.ghost_batches > 1 or not normalizes:
        return study
    shared = library.override(study, {"recipe.ghost_batches": count}, {"recipe.ghost_batches": f"{count} processes"})
    out.print(f"recipe.ghost_batches = {count}: each of {count} processes normalizes its own part of a batch")
    return shared


def _as_begun(study: StudySpec, kept: StudySpec) -> StudySpec:
    """The study with the number of ghost batches it was started with, if it sets none itself."""
    if study.recipe.ghost_batches > 1:
        return study
    field = "recipe.ghost_batches"
    return library.override(study, {field: kept.recipe.ghost_batches}, {field: "the study on disk"})


def _within_budget(folder: StudyFolder, study: StudySpec, budget: float, options: Options, out: Console) -> StudySpec:
    """The study with the steps that fit; a study on disk keeps its own."""
    from degradation.launchers import runner

    own = [name for name, arm in study.arms.items() if "steps" in arm.get("recipe", {})]
    if own:
        raise UserError(f"--budget: it chooses the steps of all runs, and arm {own[0]} gives its own: remove it")
    if folder.study() is not None:
        steps = library.stored(folder).recipe.steps
        out.print(f"--budget is ignored: {folder.name} is on disk with {steps:,} steps and keeps them")
    else:
        out.print("timing a few steps to choose how many fit the budget ...")
        steps = runner.time_costs(study, options).steps_within(study, budget)
    return library.override(study, {"recipe.steps": steps}, {"recipe.steps": f"--budget ({steps} steps)"})
