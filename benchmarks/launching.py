"""Launchers -> what they cost: seconds of a thousand runs that do nothing, and of more workers for more runs."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from degradation.launchers import launcher
from degradation.launchers.attempts import Execute, LaunchContext, ShouldStop, execute_run
from degradation.runtime.environment import Options
from degradation.runtime.progress import OnProgress, Progress
from degradation.spec import Measure, RunSpec, StudyRecipe, StudySpec, Synthetic, grid
from degradation.store import StudyFolder
from degradation.training.execute import Ending

EMPTY_RUNS, TINY_RUNS = 1000, 60
TURNS = 3
WEAK_RUNS = 2  # for each worker
TEMPORARY = "/tmp"  # Ray's sockets lie below it, and their paths may have 107 characters

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way to carry runs out: its name, what is asked, and on how many Ray nodes of one core each."""

    name: str
    options: Options
    nodes: int = 0


def local(jobs: int) -> Way:
    name = "in this process" if jobs == 1 else f"{jobs} worker processes"
    return Way(name=name, options=Options(device="cpu", threads=1, jobs=jobs))


def on_ray(nodes: int) -> Way:
    name = f"Ray, {nodes} node{'' if nodes == 1 else 's'} of one core"
    return Way(name=name, options=Options(device="cpu", threads=1, launcher="ray"), nodes=nodes)


@contextmanager
def ray_nodes(count: int) -> Iterator[None]:
    """A Ray cluster on this machine: a head without cores and as many nodes with one; this process joins it."""
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory(prefix="ray-", dir=TEMPORARY, ignore_cleanup_errors=True) as place:
        quiet = {"RAY_TMPDIR": place, "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
        os.environ.update(quiet)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        try:
            for _ in range(count):
                cluster.add_node(num_cpus=1)
            options = Options(launcher="ray", address=cluster.address)
            with launcher(options).ready(options):
                yield
        finally:
            cluster.shutdown()


def study(runs: int, steps: int, *, depth: int = 8, size: int = 8, examples: int = 64, batch: int = 16) -> StudySpec:
    """As many plain runs of one depth on synthetic images, each with its own seed."""
    return StudySpec(
        depths=(depth,),
        networks=("plain",),
        seeds=tuple(range(runs)),
        dataset=Synthetic(examples=examples, test_examples=32, size=size),
        recipe=StudyRecipe(steps=steps, batch=batch, warmup_steps=1, padding=1),
        measure=Measure(eval_every=steps),
    )


def nothing(run: RunSpec, folder: StudyFolder, options: Options, report: OnProgress, stop: ShouldStop) -> Ending:
    """A run that does nothing but say that it has ended, and so leaves a log of three lines."""
    report(Progress(run_id=run.run_id, phase="finished"))
    return "finished"


@dataclass(frozen=True, kw_only=True)
class Launched:
    """Seconds until the first run had ended, from there to the last, and of this process's processor over all."""

    first: float
    rest: float
    processor: float


def launched(way: Way, asked: StudySpec, execute: Execute) -> Launched:
    """Carry a study out once, into a folder that is deleted."""
    ended: list[float] = []

    def report(progress: Progress) -> None:
        if progress.phase == "finished":
            ended.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as root:
        folder = StudyFolder(root, "tiny")
        folder.write_study(asked.model_dump(mode="json"))
        runs = grid.runs(asked)
        chosen = launcher(way.options)
        work = LaunchContext(
            root=root, study="tiny", options=chosen.resolve_options(way.options, len(runs)), execute=execute
        )
        started, processor = time.perf_counter(), time.process_time()
        failed = chosen.launch(work, runs, report, lambda: False)
        if failed or len(ended) != len(runs):
            raise RuntimeError(f"{len(ended)} of {len(runs)} runs ended; {failed}")
        return Launched(first=ended[0] - started, rest=ended[-1] - ended[0], processor=time.process_time() - processor)


def medians(way: Way, turn: Callable[[], Launched]) -> Launched:
    """The median of several turns, on a cluster that is there before the first."""
    with ray_nodes(way.nodes) if way.nodes else nullcontext():
        found = [turn() for _ in range(TURNS)]
    values = {name: statistics.median(getattr(each, name) for each in found) for name in ("first", "rest", "processor")}
    return Launched(**values)


def scheduling() -> list[Row]:
    """What a run costs beside its training: a thousand that do nothing, then real ones of two steps."""
    return [*_scheduled("nothing", EMPTY_RUNS, nothing), *_scheduled("2 steps of plain-8", TINY_RUNS, execute_run)]


def _scheduled(what: str, runs: int, execute: Execute) -> Iterator[Row]:
    asked = study(runs, steps=2)
    for way in (local(1), local(2), on_ray(2)):
        found = medians(way, lambda way=way: launched(way, asked, execute))  # type: ignore[misc]
        yield {
            "run": what,
            "runs": runs,
            "launcher": way.name,
            "s to the first": found.first,
            "ms a run after it": 1e3 * found.rest / (runs - 1),
            "processor ms of the command a run": 1e3 * found.processor / runs,
            "load": os.getloadavg()[0],
        }


def weak() -> list[Row]:
    """Twice, three times the workers for twice, three times the runs: the same time where nothing is lost."""
    rows: list[Row] = []
    for ways in ([local(1), local(2)], [on_ray(1), on_ray(2), on_ray(3)]):
        rows += _weak(ways)
    return rows


def _weak(ways: Sequence[Way]) -> Iterator[Row]:
    one = 0.0
    for workers, way in enumerate(ways, start=1):
        asked = study(workers * WEAK_RUNS, steps=240, depth=20, size=16, examples=512, batch=64)
        found = medians(way, lambda way=way, asked=asked: launched(way, asked, execute_run))  # type: ignore[misc]
        seconds = found.first + found.rest
        one = one or seconds
        yield {
            "launcher": way.name,
            "workers": workers,
            "runs": workers * WEAK_RUNS,
            "s": seconds,
            "of one worker's": seconds / one,
            "load": os.getloadavg()[0],
        }
