"""Runs executed as tasks of a Ray cluster: longest first, each on its share of a GPU or its cores, on any node."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from degradation.errors import UserError
from degradation.launchers.attempts import LaunchContext, ShouldStop
from degradation.launchers.ray_cluster import Head, address_of, alive, connected, gcs_address, on_node, resources, task
from degradation.launchers.ray_resources import Share, share_of
from degradation.runtime.distributed import here
from degradation.runtime.environment import Options, cores
from degradation.runtime.progress import OnProgress, Progress
from degradation.spec import RunSpec, StudySpec
from degradation.training.cost import Costs

# After `cluster`, which reports in one line that Ray is not installed.
import ray  # isort: skip
from ray.exceptions import RayError, RayTaskError  # isort: skip

from degradation.launchers import ray_tasks
from degradation.launchers.ray_scheduler import Dispatch, dead

CHECK_SECONDS = 120.0  # for a node to answer whether it can take part; busier ones are not waited for


@contextmanager
def ready(options: Options) -> Iterator[str]:
    """Ray, joined at the address or in ``$RAY_ADDRESS``, else started on this machine and stopped at the end.

    Raises UserError if no cluster answers, or if this machine is asked for more than it has.
    """
    if here().several:
        raise UserError("--launcher ray: torchrun's processes train one run together here: expected one of the two")
    if ray.is_initialized():
        yield ""
        return
    with connected(options):
        share = share_of(options, resources(), 1)
        _fits(share, options)  # before anything is timed
        yield _sentence(options, share)


def _sentence(options: Options, share: Share) -> str:
    there = resources()
    gpus, cpus = (sum(node.get(name, 0) for node in there) for name in ("GPU", "CPU"))
    where = f"at {gcs_address()}" if address_of(options) else "started on this machine"
    waits = "" if share.within(there) else f"; no node has {share.description()} yet, and one that has is waited for"
    return f"Ray {where}: nodes {len(there)}, GPUs {gpus:g}, cores {cpus:g}{waits}"


def resolve_options(options: Options, runs: int) -> Options:
    """One thread per run unless given, or the study was started with more; as many parallel runs as fit."""
    return replace(options, threads=options.threads or 1)


def check(work: LaunchContext, study: StudySpec) -> None:
    """Raise UserError, which names the node, where one that may be given runs has another version, root or data.

    A node that joins later says so itself, of the first run that it is given.
    """
    with ready(work.options):
        options, share = _placed(work.options, 1)
        packed = ray_tasks.packed(_from_anywhere(work, options), study)
        look = task(ray_tasks.check, share)
        fitting = [node["NodeID"] for node in alive() if share.within([node["Resources"]])]
        places = [look.options(**share.least(), scheduling_strategy=on_node(node)) for node in fitting]
        ray_options = [Head().answer(partial(place.remote, *packed)) for place in places]
        answered, busy = Head().ended(ray_options, CHECK_SECONDS) if ray_options else ([], [])
        for ref in busy:
            ray.cancel(ref)
        for ref in answered:
            _answer(ref)


def time_costs(study: StudySpec, options: Options) -> Costs:
    """Time steps on a node, since this machine need not have its device."""
    from degradation.spec import grid

    runs = len(grid.runs(study))
    with ready(options):
        placed, share = _placed(options, runs)
        _fits(share, placed)
        timing = ray.remote(ray_tasks.time_costs_on_node).options(**share.ray_options())
        packed = ray_tasks.packed(study, replace(placed, jobs=1))
        found: Costs = _answer(Head().answer(partial(timing.remote, *packed)))
        at_a_time = min(runs, options.jobs or runs, share.within(resources()) or 1)
        return replace(found, jobs=at_a_time)


def _placed(options: Options, runs: int) -> tuple[Options, Share]:
    """The options as a node takes them, and the share of each run: a task is given CUDA or cores, and uses those."""
    options = resolve_options(options, runs)
    share = share_of(options, resources(), runs)
    options = replace(options, device="cuda" if share.gpus else "cpu", address=address_of(options) or None)
    return replace(options, data_dir=_absolute(options.data_dir)), share


def _absolute(folder: Path | None) -> Path | None:
    return None if folder is None else folder.expanduser().absolute()


def _from_anywhere(work: LaunchContext, options: Options) -> LaunchContext:
    """The work with its root as every node names it."""
    root = work.root if "://" in work.root else str(Path(work.root).absolute())
    return replace(work, root=root, options=options)


def _answer(ref: Any) -> Any:
    """The answer of a node. UserError if it refused or died, or the cluster is gone."""
    Head().ended([ref])
    try:
        return ray.get(ref)
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise UserError(dead(error)) from None
    except RayError as error:
        raise UserError(dead(error)) from None


def _fits(share: Share, options: Options) -> None:
    """UserError if Ray was started here and the machine cannot give a run its share; a cluster may yet grow."""
    if share.within(resources()) or address_of(options):
        return
    raise UserError(
        f"each run takes {share.description()}, and Ray finds {cores()} core(s) and no such GPU here: choose less with "
        "--threads, --gpus-per-run or --device"
    )


def launch(work: LaunchContext, runs: Sequence[RunSpec], report: OnProgress, stop: ShouldStop) -> dict[str, str]:
    """Execute the runs on the cluster; returns the failed ones with their line.

    Ends early, with checkpoints, once ``stop()``. Raises UserError if a node cannot take part at all: another
    version of this package, or a root that it does not see.
    """
    if not work.folder.store.shared:
        raise UserError(f"{work.folder.path} lives in one process: expected a path or a URL that every node sees")
    with ready(work.options):
        options, share = _placed(work.options, len(runs))
        _fits(share, options)
        _report_shares(work.root, share, report)
        dispatch = Dispatch(_from_anywhere(work, options), share, report, stop)
        dispatch.run_all(runs)
    return dispatch.retries.failed


def _report_shares(root: str, share: Share, report: OnProgress) -> None:
    hosts = {node["NodeManagerHostname"] for node in alive()}
    if len(hosts) > 1 and "://" not in root:
        message = f"{len(hosts)} hosts write to {root}: it must be the same folder on each (NFS)"
        report(Progress(run_id="", phase="note", message=message))
    at_a_time = share.within(resources())
    message = f"each run takes {share.description()}: {at_a_time or 'none yet'} at a time"
    report(Progress(run_id="", phase="note", message=message))


__all__ = ["check", "launch", "ready", "resolve_options", "time_costs"]
