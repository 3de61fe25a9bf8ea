"""The pending runs of a study -> one `execute` per run, by the chosen launcher."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from degradation.errors import Interrupted, UserError
from degradation.launchers import launcher
from degradation.runtime.distributed import check_shares, here
from degradation.runtime.environment import Options, check_counts
from degradation.runtime.progress import OnProgress, Progress, silent
from degradation.runtime.signals import interruptible, stop_requests
from degradation.spec import GROWING, RunSpec, StudySpec, flatten, grid, leaves
from degradation.spec.validation import check_kind, refusal
from degradation.store import StudyFolder, Url
from degradation.study.library import check_name, stored, with_images
from degradation.study.snapshot import StudySnapshot, damaged_runs, take_snapshot
from degradation.study.status import ids_by_spec
from degradation.training.coordinator import leading
from degradation.training.cost import Costs

if TYPE_CHECKING:
    from degradation.study.results import Results


STOPPING = Progress(
    run_id="", phase="note", message="stopping: each run in progress ends its step and writes its checkpoint"
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of a study: the ids of its runs, and for a failed one a line with the reason."""

    finished: tuple[str, ...] = ()
    diverged: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)


def grow(folder: StudyFolder, study: StudySpec) -> StudySpec:
    """The study united with the one on disk: depths, networks, shortcuts, seeds and arms may be added; writes nothing.

    Raises UserError, naming the field, if any other field differs: an arm on disk keeps its changes, and a study
    without arms stays without.
    """
    if folder.study() is None:
        return study.begun()
    on_disk = stored(folder)
    study = study.continuing(on_disk)
    new, old = _fixed(study, on_disk), _fixed(on_disk, study)
    for name in old | new:
        if new.get(name) != old.get(name):
            raise UserError(
                f"study {folder.name} on disk has {name} = {old.get(name)}, asked was {new.get(name)}: "
                f"a study keeps what it began with; take --name NEW for another one"
            )
    united: dict[str, Any] = {n: tuple(dict.fromkeys((*getattr(on_disk, n), *getattr(study, n)))) for n in GROWING}
    fields = on_disk.model_dump() | united | {"arms": on_disk.arms | study.arms | on_disk.arms}
    try:
        return StudySpec.model_validate(fields)
    except ValidationError as error:  # arms that differ at each depth of their own study, but not at an added depth
        raise refusal(error, fields, lambda _, __: f"study {folder.name} on disk cannot grow so") from None


def _fixed(study: StudySpec, other: StudySpec) -> dict[str, Any]:
    """The fields that must be equal to unite ``study`` and ``other``: not those that grow, nor arms of only one."""
    fields = {name: value for name, value in flatten(study).items() if name.split(".")[0] not in (*GROWING, "arms")}
    arms = {name: flatten(arm) for name, arm in study.each_arm.items()}  # also with fields that an arm does not change
    shared = {
        f"arms.{name}.{field}": arms[name][field]
        for name in study.arms.keys() & other.arms.keys()
        for field in leaves(study.arms[name]) | leaves(other.arms[name])
    }
    return fields | shared | {"question": None, "arms": "some" if study.arms else "none"}


def pending(folder: StudyFolder, study: StudySpec) -> tuple[RunSpec, ...]:
    """The runs of the study that are not done, found by comparing specs, not names.

    A done run with a damaged spec is found by the name of its folder: it is reported and never written again.
    """
    snapshot = take_snapshot(folder)
    done = {run for run, run_id in ids_by_spec(snapshot).items() if snapshot.is_done(run_id)}
    return tuple(run for run in grid.runs(study) if run not in done and not snapshot.is_done(run.run_id))


@contextmanager
def ready(options: Options) -> Iterator[str]:
    """Hold the resources of the runs, for timing and training; yields a sentence that describes them.

    Interrupted if a signal comes while nothing is trained.
    """
    with interruptible(), launcher(options).ready(options) as resources:
        yield resources


def time_costs(study: StudySpec, options: Options) -> Costs:
    """Time real steps of the study's least and greatest depth, on the machine that will execute the runs."""
    with interruptible():
        return launcher(options).time_costs(study, options)


def execute_study(folder: StudyFolder, study: StudySpec, options: Options, report: OnProgress | None = None) -> Outcome:
    """Train every pending run of the study, several at a time if the options allow it.

    Without ``report``, a notebook's cell shows a bar, and elsewhere nothing is printed. Raises UserError before any
    training if data, device or disk are missing; Interrupted after SIGINT or SIGTERM, when every run in progress has
    its checkpoint.
    """
    from degradation.launchers.attempts import LaunchContext  # imports torch, which reading a study does not need

    check_counts(options)
    study = _write_study(folder, study)
    snapshot = take_snapshot(folder)
    snapshot.sweep()
    failed = damaged_runs(snapshot)
    todo = pending(snapshot, study)
    for run in todo:
        check_shares(run, here().count, options.sync_batch_norm)
    if todo:
        options = _resolved_options(snapshot, study, options)
        work = LaunchContext(root=str(folder.store.root), study=folder.name, options=options)
        on_progress, chosen = report or _default_report(todo), launcher(options)
        with chosen.ready(options):
            chosen.check(work, study)  # missing or damaged files are reported before any training
            with stop_requests(lambda: on_progress(STOPPING)) as stop:
                failed |= chosen.launch(work, todo, on_progress, stop)
                if stop.status:
                    raise Interrupted(stop.status)
        snapshot.look_again()
    return _outcome(snapshot, study, failed)


def _resolved_options(snapshot: StudySnapshot, study: StudySpec, options: Options) -> Options:
    """The options with jobs and threads chosen for the whole study, not for its pending runs.

    Results depend on the threads of a run by rounding: a study that continues keeps the threads of its done runs.
    """
    facts = (snapshot.facts(run_id)["provenance"] for run_id in snapshot.ended() if run_id not in snapshot.damaged)
    threads = options.threads or next((fact["threads"] for fact in facts if fact["device"] == "cpu"), None)
    return launcher(options).resolve_options(replace(options, threads=threads), len(grid.runs(study)))


def _write_study(folder: StudyFolder, study: StudySpec) -> StudySpec:
    """Write the study united with the one on disk, and return it. UserError if another process holds its lock."""
    with folder.study_lock() as held:
        if not held:
            died = ", or one that died within the last minute" if isinstance(folder.path, Url) else ""
            raise UserError(f"study {folder.name} is being changed by another process{died}: try again")
        grown = grow(folder, study)
        folder.write_study(grown.model_dump(mode="json"))
    return grown


def _outcome(snapshot: StudySnapshot, study: StudySpec, failed: dict[str, str]) -> Outcome:
    """The outcome of the study's runs; frames that were just written are not read again."""
    on_disk = ids_by_spec(snapshot)
    planned = (on_disk.get(run) or run.run_id for run in grid.runs(study))
    done = [run_id for run_id in planned if snapshot.is_done(run_id) and run_id not in failed]
    status = {run_id: snapshot.done(run_id)["status"] for run_id in done}
    return Outcome(
        finished=tuple(run_id for run_id in done if status[run_id] == "finished"),
        diverged=tuple(run_id for run_id in done if status[run_id] == "diverged"),
        failed=failed,
    )


def run(
    study: StudySpec,
    *,
    name: str,
    root: str | Path = "runs",
    options: Options | None = None,
    report: OnProgress | None = None,
) -> "Results":
    """Train the runs of a study that are not done yet, and return its frames.

    The same as ``degradation run``. Done runs are not trained again; interrupted runs continue. A script that torchrun
    starts calls it in every process.

    Parameters
    ----------
    study : StudySpec
        Networks, recipe, data set and measurements.
    name : str
        Name of the study's folder.
    root : str or Path
        Folder of all studies: a path, or a URL such as ``s3://bucket/runs``.
    options : Options, optional
        Device, threads, number of runs at a time. By default one run at a time in this process. With several, runs are
        trained in worker processes, so the script needs ``if __name__ == "__main__":``.
    report : callable, optional
        Called with each progress message. By default a notebook's cell shows a bar, and elsewhere nothing is printed.

    Returns
    -------
    Results
        The frames of all done runs.

    Raises
    ------
    UserError
        The study or an option is not possible.
    RuntimeError
        Runs failed; the message names each of them.

    Examples
    --------
    >>> import degradation, tempfile
    >>> from degradation.spec import StudyRecipe, Synthetic
    >>> data = Synthetic(examples=256, test_examples=128)
    >>> study = degradation.StudySpec(depths=(8,), dataset=data, recipe=StudyRecipe(steps=2, batch=16, flip=False))
    >>> results = degradation.run(study, name="small", root=tempfile.mkdtemp())
    >>> sorted(results["runs"]["network"])
    ['plain', 'residual']
    """
    from degradation.study.results import Results

    check_kind("study", study, StudySpec, 'a StudySpec, such as degradation.study.library.resolve("quickstart").study')
    check_name(name, "name")
    check_kind("root", root, (str, Path), "a path or a URL")
    check_kind("options", options, (Options, type(None)), "degradation.runtime.environment.Options(...)")
    folder, options = StudySnapshot(StudyFolder(root, name)), options or Options(jobs=1)
    with leading() as leads:
        outcome = Outcome()
        if leads:
            study = with_images(study, folder, options.data_dir)
            outcome = execute_study(folder, study, options, report)
    if outcome.failed:
        raise RuntimeError("; ".join(f"{run_id}: {why}" for run_id, why in outcome.failed.items()))
    return Results(folder)


def _default_report(runs: tuple[RunSpec, ...]) -> OnProgress:
    """A bar in the cell of a notebook; elsewhere messages are discarded."""
    from degradation.runtime.notebook import NotebookProgress, in_notebook

    return NotebookProgress({run.run_id: run for run in runs}) if in_notebook() else silent


__all__ = ["Costs", "Outcome", "execute_study", "grow", "pending", "ready", "run", "time_costs"]
