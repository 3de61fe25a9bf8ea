"""Carries out what is pending of a study: plan -> pending -> one `execute` per run, in this process or in several."""

from collections.abc import Container
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from degradation import plan
from degradation.costs import Costs, time_costs
from degradation.environment import Options, choose_jobs, cores
from degradation.errors import Interrupted, UseError
from degradation.progress import Report, silent
from degradation.refusals import refusal
from degradation.spec import GROWING, RunSpec, StudySpec, flatten, leaves
from degradation.standing import damage, known
from degradation.stopping import stop_requests
from degradation.store import StudyFolder
from degradation.studies import stored

if TYPE_CHECKING:
    from degradation.results import Results


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a study: the ids of its runs, and for a failed one the line that says why."""

    finished: tuple[str, ...] = ()
    diverged: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)


def grow(folder: StudyFolder, study: StudySpec) -> StudySpec:
    """The study united with the one on disk: depths, networks, shortcuts, seeds and arms may be added; writes nothing.

    Raises UseError where any other field differs, naming it: an arm that is on disk keeps what it changes, and a
    study without arms stays without.
    """
    if folder.study() is None:
        return study
    kept = stored(folder)
    asked, there = _fixed(study, kept), _fixed(kept, study)
    for name in there | asked:
        if asked.get(name) != there.get(name):
            raise UseError(
                f"study {folder.name} on disk has {name} = {there.get(name)}, asked was {asked.get(name)}: "
                f"a study keeps what it began with; take --name NEW for another one"
            )
    united: dict[str, Any] = {n: tuple(dict.fromkeys((*getattr(kept, n), *getattr(study, n)))) for n in GROWING}
    fields = kept.model_dump() | united | {"arms": kept.arms | study.arms | kept.arms}
    try:
        return StudySpec.model_validate(fields)
    except ValidationError as error:  # arms that differ at each depth of their own study, and not at one of the other
        raise refusal(error, fields, lambda _, __: f"study {folder.name} on disk cannot grow so") from None


def _fixed(study: StudySpec, other: StudySpec) -> dict[str, Any]:
    """What must be equal for ``study`` and ``other`` to be united: all but what grows and the arms of one alone."""
    fields = {name: value for name, value in flatten(study).items() if name.split(".")[0] not in (*GROWING, "arms")}
    checked = {name: flatten(arm) for name, arm in study.each_arm.items()}  # what one arm leaves out has a value too
    shared = {
        f"arms.{name}.{field}": checked[name][field]
        for name in study.arms.keys() & other.arms.keys()
        for field in leaves(study.arms[name]) | leaves(other.arms[name])
    }
    return fields | shared | {"question": None, "arms": "some" if study.arms else "none"}


def pending(folder: StudyFolder, study: StudySpec) -> tuple[RunSpec, ...]:
    """The runs of the study that are not done, found by comparing specs, not names.

    A done run whose spec is damaged goes by the id that its folder bears: it is named, and never written again.
    """
    done = {run for run, run_id in known(folder).items() if folder.is_done(run_id)}
    return tuple(run for run in plan.runs(study) if run not in done and not folder.is_done(run.run_id))


def carry_out(folder: StudyFolder, study: StudySpec, options: Options, report: Report) -> Outcome:
    """Train every pending run of the study, several at a time where the options say so.

    Raises UseError before any training where data, device or disk are not there; Interrupted after SIGINT or
    SIGTERM, when every run in progress has its checkpoint.
    """
    from degradation import launcher  # torch comes in here, not with the reading half
    from degradation.data import load_images

    study = _keep_study(folder, study)
    damaged = _damaged(folder)
    todo = pending(folder, study)
    failed: dict[str, str] = {}
    if todo:
        load_images(study.dataset, options.data_dir)  # what is missing or damaged is said before any training
        with stop_requests() as stop:
            failed = launcher.launch(folder, todo, _settled(folder, study, options, damaged), report, stop)
            if stop.status:
                raise Interrupted(stop.status)
    return _outcome(folder, study, damaged | failed)


def _settled(folder: StudyFolder, study: StudySpec, options: Options, damaged: Container[str]) -> Options:
    """The options with jobs and threads chosen by the whole study, not by what is left of it.

    Results depend on the threads of a run by rounding: a study that continues keeps those of its done runs.
    """
    intact = [run_id for run_id in folder.run_ids() if folder.is_done(run_id) and run_id not in damaged]
    facts = (folder.facts(run_id)["provenance"] for run_id in intact)
    kept = next((fact["threads"] for fact in facts if fact["device"] == "cpu"), None)
    options = replace(options, threads=options.threads or kept)
    jobs = choose_jobs(options, len(plan.runs(study)))
    return replace(options, jobs=jobs, threads=options.threads or max(1, cores() // jobs))


def _keep_study(folder: StudyFolder, study: StudySpec) -> StudySpec:
    with folder.study_lock() as held:
        if not held:
            raise UseError(f"study {folder.name} is being changed by another process: try again")
        grown = grow(folder, study)
        folder.write_study(grown.model_dump(mode="json"))
    return grown


def _damaged(folder: StudyFolder) -> dict[str, str]:
    """Done runs with a file that is not what was written: they are named, and never written again."""
    found = {run_id: damage(folder, run_id) for run_id in folder.run_ids() if folder.is_done(run_id)}
    return {run_id: why for run_id, why in found.items() if why}


def _outcome(folder: StudyFolder, study: StudySpec, failed: dict[str, str]) -> Outcome:
    found = known(folder)
    planned = (found.get(run, run.run_id) for run in plan.runs(study))
    done = [run_id for run_id in planned if folder.is_done(run_id) and run_id not in failed]
    status = {run_id: folder.done(run_id)["status"] for run_id in done}
    return Outcome(
        finished=tuple(run_id for run_id, found in status.items() if found == "finished"),
        diverged=tuple(run_id for run_id, found in status.items() if found == "diverged"),
        failed=failed,
    )


def run(
    study: StudySpec,
    *,
    name: str,
    root: str | Path = "runs",
    options: Options | None = None,
    report: Report = silent,
) -> "Results":
    """Train what is pending of a study into ``root/name`` and return its frames; the command's Python twin.

    One run at a time unless ``options`` say otherwise; several start worker processes, so a script that asks for
    them needs the usual ``if __name__ == "__main__":``.

    Raises UseError for what cannot be done as asked, RuntimeError naming each run that failed.
    """
    from degradation.results import Results

    folder = StudyFolder(root, name)
    outcome = carry_out(folder, study, options or Options(jobs=1), report)
    if outcome.failed:
        raise RuntimeError("; ".join(f"{run_id}: {why}" for run_id, why in outcome.failed.items()))
    return Results(folder)


__all__ = ["Costs", "Outcome", "carry_out", "grow", "pending", "run", "time_costs"]
