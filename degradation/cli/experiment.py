"""The command `experiment`: experiments on trained networks."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from degradation.cli.exit_codes import DONE, RUN_FAILED
from degradation.cli.options import FormatsOption, JsonOption, MachineOptions, Name, RootOption, flag, formats_of, value
from degradation.cli.parser import spread
from degradation.errors import UserError
from degradation.experiments import REGISTRY
from degradation.spec import NETWORKS
from degradation.spec.validation import suggestion
from degradation.study import library

if TYPE_CHECKING:
    from rich.console import Console

    from degradation.experiments.run import ExperimentOutcome, ExperimentTask
    from degradation.store import StudyFolder
    from degradation.study.results import Results

HOW, MACHINE = "How it is measured (default: as when it was started)", "Machine"
WHICH = "On which runs (default: all done runs)"


def _number(least: int, help: str) -> Any:
    return value("N", help, HOW, min=least)


@dataclass(frozen=True, kw_only=True)
class RunFilter:
    """Runs of a study by depth, network and seed; None: all."""

    depths: Annotated[list[int] | None, value("N ...", "Only these depths.", WHICH)] = None
    networks: Annotated[list[str] | None, value("NAME ...", f"Only these: {', '.join(NETWORKS)}.", WHICH)] = None
    seeds: Annotated[list[int] | None, value("N ...", "Only these seeds.", WHICH)] = None

    def of(self, results: "Results") -> tuple[str, ...]:
        """The ids of the runs. UserError for a value that no done run has, or if no run matches all values."""
        chosen = results.specs
        for option, wanted in asdict(self).items():
            field = option.removesuffix("s")
            known = sorted({getattr(spec, field) for spec in results.specs.values()})
            if unknown := [value for value in wanted or () if value not in known]:
                has = ", ".join(map(str, known)) or "none yet"
                raise UserError(f"--{option}: no done run of {results.name} has {field} {unknown[0]}: expected {has}")
            chosen = {r: spec for r, spec in chosen.items() if wanted is None or getattr(spec, field) in wanted}
        if results.specs and not chosen:
            raise UserError(f"no done run of {results.name} has this depth, network and seed")
        return tuple(chosen)


@spread
def experiment(
    name: Name,
    experiments: Annotated[
        list[str] | None, typer.Argument(metavar="[EXPERIMENT ...]", help=f"{', '.join(REGISTRY)}; default: all.")
    ] = None,
    *,
    run_filter: RunFilter,
    examples: Annotated[int | None, _number(8, "Images used of each split (500).")] = None,
    seed: Annotated[int | None, _number(0, "Seed of the random draws (0).")] = None,
    draws: Annotated[int | None, _number(1, "Random draws of each kind (3).")] = None,
    points: Annotated[int | None, _number(2, "Values of the varied quantity (5).")] = None,
    anew: Annotated[bool, flag("--anew", "Measure again runs with other settings.", HOW)] = False,
    device: Annotated[str, value("auto|cpu|cuda|mps", "Device.", MACHINE)] = "auto",
    threads: Annotated[str | None, value("N", "CPU threads.", MACHINE)] = None,
    data_dir: Annotated[Path | None, value("DIR", "Folder of the CIFAR-10 files.", MACHINE)] = None,
    format: FormatsOption = None,
    root: RootOption = library.ROOT,
    as_json: JsonOption = False,
) -> int:
    """Run experiments on the trained networks of a study and draw their figures. Run it again to continue."""
    folder, formats = library.locate(name, root), formats_of(format)
    names = _checked(experiments or list(REGISTRY))
    machine_options = MachineOptions(device=device, threads=threads, data_dir=data_dir).checked()
    settings = {"examples": examples, "seed": seed, "draws": draws, "points": points}
    given = {name: setting for name, setting in settings.items() if setting is not None}

    from degradation.cli.console import console
    from degradation.cli.json_output import print_json
    from degradation.experiments.run import prepare, resolve_settings
    from degradation.study.results import Results

    out, among = console(stderr=as_json), run_filter.of(Results(folder))
    if anew and run_filter != RunFilter():
        raise UserError(
            "--anew measures every run again, so that all have the same settings: remove the choice of runs"
        )
    for experiment_name in names:  # everything that can be refused is refused before anything is measured
        resolve_settings(folder.experiment(experiment_name), given, anew=anew)
    outcomes = {}
    for experiment_name in names:
        work = prepare(folder, experiment_name, machine_options, given=given, anew=anew, among=among)
        outcomes[experiment_name] = _run_experiment(work, out)
    paths = _draw(folder, names, formats, out)
    if as_json:
        fields = {n: {k: v for k, v in asdict(outcome).items() if k != "name"} for n, outcome in outcomes.items()}
        print_json({"name": folder.name, "path": str(folder.path), "figures": paths, "experiments": fields})
    return RUN_FAILED if any(outcome.failed for outcome in outcomes.values()) else DONE


def _checked(experiments: list[str]) -> tuple[str, ...]:
    """The names of the experiments, each once. UserError for an unknown one."""
    for name in experiments:
        if name not in REGISTRY:
            choices = ", ".join(REGISTRY)
            raise UserError(f"no experiment {name!r}: choose from {choices}{suggestion(name, REGISTRY)}")
    return tuple(dict.fromkeys(experiments))


def _run_experiment(work: "ExperimentTask", out: "Console") -> "ExperimentOutcome":
    """Measure the pending runs, with the estimated time, progress and a summary."""
    from degradation.cli.console import say_error
    from degradation.cli.formatting import count, duration
    from degradation.cli.progress import watching
    from degradation.experiments.run import run_experiment
    from degradation.experiments.time_estimate import estimate_remaining

    out.print(f"{work.experiment.name}: {work.experiment.question}", style="bold")
    out.print(f"{count(len(work.todo), 'run')} to measure: {work.settings}", soft_wrap=True)
    if seconds := estimate_remaining(work):
        out.print(f"about {duration(seconds)}, estimated from a part of the smallest and of the largest network")
    todo = {run_id: work.results.specs[run_id] for run_id in work.todo}
    with watching(out, todo) as report:
        outcome = run_experiment(work, report)
    for run_id, why in outcome.left_out.items():
        out.print(f"{run_id} is skipped: {why}", style="yellow", soft_wrap=True)
    for run_id, why in outcome.failed.items():
        say_error(f"{run_id} failed: {why}")
    out.print(f"{count(len(outcome.done), 'run')} measured in {work.place.path}", soft_wrap=True)
    return outcome


def _draw(folder: "StudyFolder", names: tuple[str, ...], formats: list[str], out: "Console") -> list[str]:
    """Draw the figures of the experiments into the study's folder; print a line for each without rows."""
    from degradation.figures import draw
    from degradation.study.results import Results

    results, paths = Results(folder), []
    for name in names:
        try:
            paths += [str(path) for path in draw(results, (name,), formats, folder.figures_path()).paths]
        except UserError as error:
            out.print(f"figure {name} is skipped: {error}", soft_wrap=True)
    for path in paths:
        out.print(f"figure {path}", soft_wrap=True)
    return paths
