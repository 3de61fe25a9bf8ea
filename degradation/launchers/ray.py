"""Runs executed as tasks of a Ray cluster: longest first, each with its share of a GPU or its cores, on any node."""

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
from degradation.runtime.environment import Device, Options, cores
from degradation.runtime.progress import OnProgress, Progress
from degradation.spec import RunSpec, StudySpec, grid
from degradation.training.cost import Costs

# After `ray_cluster`, which reports in one line that Ray is not installed.
import ray  # isort: skip
from ray.exceptions import RayError, RayTaskError  # isort: skip

from degradation.launchers import ray_tasks
from degradation.launchers.ray_scheduler import Dispatch, dead

CHECK_SECONDS = 120.0  # longest wait for the check of a node; busier nodes are not checked


@contextmanager
def ready(options: Options) -> Iterator[str]:
    """Join Ray at the address or ``$RAY_ADDRESS``, or start it on this machine and stop it at the end.

    Raises UserError if no cluster answers, or if this machine has too little for a run.
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
    """The cluster's address and resources, for the user."""
    nodes = resources()
    gpus, cpus = (sum(node.get(name, 0) for node in nodes) for name in ("GPU", "CPU"))
    where = f"at {gcs_address()}" if address_of(options) else "started on this machine"
    waits = "" if share.within(nodes) else f"; no node has {share.description()} yet, and one that has is waited for"
    return f"Ray {where}: nodes {len(nodes)}, GPUs {gpus:g}, cores {cpus:g}{waits}"


def resolve_options(options: Options, runs: int) -> Options:
    """The options with one thread per run unless they set more; as many runs as fit go at a time."""
    return replace(options, threads=options.threads or 1)


def check(work: LaunchContext, study: StudySpec) -> None:
    """Raise UserError, which names the node, if a node that can execute runs has another version, root or data.

    A node that joins later is checked at its first run.
    """
    with ready(work.options):
        options, share = _resolve(work.options, 1)
        packed = ray_tasks.packed(_from_anywhere(work, options), study)
        check_node = task(ray_tasks.check, share)
        fitting = [node["NodeID"] for node in alive() if share.within([node["Resources"]])]
        checks = [check_node.options(**share.least(), scheduling_strategy=on_node(node)) for node in fitting]
        refs = [Head().answer(partial(check.remote, *packed)) for check in checks]
        answered, busy = Head().ended(refs, CHECK_SECONDS) if refs else ([], [])
        for ref in busy:
            ray.cancel(ref)
        for ref in answered:
            _answer(ref)


def time_costs(study: StudySpec, options: Options) -> Costs:
    """Time steps on a node, since this machine need not have its device."""
    runs = len(grid.runs(study))
    with ready(options):
        node_options, share = _resolve(options, runs)
        _fits(share, node_options)
        timing = ray.remote(ray_tasks.time_costs_on_node).options(**share.ray_options())
        packed = ray_tasks.packed(study, replace(node_options, jobs=1))
        costs: Costs = _answer(Head().answer(partial(timing.remote, *packed)))
        return replace(costs, jobs=min(runs, options.jobs or runs, share.within(resources()) or 1))


def _resolve(options: Options, runs: int) -> tuple[Options, Share]:
    """The options for a node, and the share of each run: a task gets CUDA or cores and uses only these."""
    options = resolve_options(options, runs)
    share = share_of(options, resources(), runs)
    data_dir = options.data_dir and options.data_dir.expanduser().absolute()
    device: Device = "cuda" if share.gpus else "cpu"
    return replace(options, device=device, address=address_of(options) or None, data_dir=data_dir), share


def _from_anywhere(work: LaunchContext, options: Options) -> LaunchContext:
    """The work with an absolute root, which is the same on every node."""
    root = work.root if "://" in work.root else str(Path(work.root).absolute())
    return replace(work, root=root, options=options)


def _answer(ref: Any) -> Any:
    """The result of a node's task. UserError if the task failed, the node died, or the cluster is gone."""
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
    """UserError if Ray was started here and the machine has too little for a run; a cluster may still grow."""
    if share.within(resources()) or address_of(options):
        return
    raise UserError(
        f"each run takes {share.description()}, and Ray finds {cores()} core(s) and no such GPU here: choose less with "
        "--threads, --gpus-per-run or --device"
    )


def launch(work: LaunchContext, runs: Sequence[RunSpec], report: OnProgress, stop: ShouldStop) -> dict[str, str]:
    """Execute the runs on the cluster; returns failed run -> reason.

    Ends early, with checkpoints, after ``stop()`` is true. Raises UserError if a node cannot execute runs at all: it
    has another version of this package, or another root.
    """
    if not work.folder.store.shared:
        raise UserError(f"{work.folder.path} lives in one process: expected a path or a URL that every node sees")
    with ready(work.options):
        options, share = _resolve(work.options, len(runs))
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
