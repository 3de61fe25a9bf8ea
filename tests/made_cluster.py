"""A Ray cluster of several nodes on this machine, and what its tasks execute in place of a training."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from degradation.launchers.attempts import LaunchContext, ShouldStop, execute_run
from degradation.runtime.environment import Options
from degradation.runtime.progress import OnProgress, Progress
from degradation.spec import RunSpec, StudySpec
from degradation.store import StudyFolder
from degradation.training.execute import Ending
from tests import made

NODES = 3
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "OMP_NUM_THREADS": "1"}


@contextmanager
def three_nodes(monkeypatch: Any) -> Iterator[Any]:
    """A head without a core and three nodes of one core and one GPU in name each, in a temporary folder of its own."""
    from ray.cluster_utils import Cluster

    place = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # pytest's own paths are too long for the sockets in it
    for name, value in (QUIET | {"RAY_TMPDIR": place}).items():
        monkeypatch.setenv(name, value)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(NODES):
            add_node(cluster)
        yield cluster
    finally:
        cluster.shutdown()
        shutil.rmtree(place, ignore_errors=True)


def add_node(cluster: Any, **env_vars: str) -> Any:
    return cluster.add_node(num_cpus=1, num_gpus=1, env_vars=env_vars or None)


def lose_node(cluster: Any, worker: int) -> None:
    """Kill the node of a worker, with all that runs on it."""
    parent = int(Path(f"/proc/{worker}/stat").read_text().rsplit(")", 1)[1].split()[1])
    [lost] = [node for node in cluster.worker_nodes if node.all_processes["raylet"][0].process.pid == parent]
    cluster.remove_node(lost, allow_graceful=False)


def lose_head(phase: str) -> None:
    """Kill the head of the Ray that this process has started when it comes to this function of the launcher."""
    from degradation.launchers import ray as launcher

    go_on = getattr(launcher, phase)

    def headless(*given: Any) -> Any:
        node: Any = launcher.ray._private.worker._global_node
        head = node.all_processes["gcs_server"][0].process
        head.kill()
        head.wait()
        return go_on(*given)

    setattr(launcher, phase, headless)


def pretended(root: Path, execute: Any, study: StudySpec | None = None, **options: Any) -> LaunchContext:
    """A launch whose runs are executed by a function of a test."""
    folder = StudyFolder(root, "s")
    folder.write_study((study or made.study_spec()).begun().model_dump(mode="json"))
    return LaunchContext(root=str(root), study="s", options=Options(**options), execute=execute)


# What tasks execute: functions of a module that the nodes can import


def unhurried(run: RunSpec, folder: StudyFolder, options: Options, report: OnProgress, stop: ShouldStop) -> Ending:
    """A training that is still under way when a test has heard of it."""

    def slowly(progress: Progress) -> None:
        report(progress)
        time.sleep(0.1)

    return execute_run(run, folder, options, slowly, stop)


def note(folder: StudyFolder, run: RunSpec, what: str) -> int:
    """Keep a line for the test to read; how many there are of this run."""
    place = Path(folder.store.root) / "notes"
    place.mkdir(exist_ok=True)
    with (place / run.run_id).open("a") as file:
        file.write(f"{what}\n")
    return len((place / run.run_id).read_text().splitlines())


def notes(root: Path) -> dict[str, list[str]]:
    return {file.name: file.read_text().splitlines() for file in (root / "notes").iterdir()}


def fails_if_plain(run: RunSpec, folder: StudyFolder, options: Options, report: OnProgress, stop: ShouldStop) -> Ending:
    """A plain run always fails, each time elsewhere in it."""
    if run.network == "plain":
        raise RuntimeError(f"attempt {note(folder, run, 'plain')} has failed")
    report(Progress(run_id=run.run_id, phase="finished"))
    return "finished"


def finds_no_data(run: RunSpec, folder: StudyFolder, options: Options, report: OnProgress, stop: ShouldStop) -> Ending:
    from degradation.errors import UserError

    note(folder, run, "asked")
    raise UserError("no images here")


def finds_no_data_on_a_sick_node(
    run: RunSpec, folder: StudyFolder, options: Options, report: OnProgress, stop: ShouldStop
) -> Ending:
    from degradation.errors import UserError

    if "SICK" in os.environ:
        note(folder, run, "sick")
        raise UserError("no images here")
    report(Progress(run_id=run.run_id, phase="started"))
    time.sleep(0.5)  # the sick node is the faster one
    report(Progress(run_id=run.run_id, phase="finished"))
    return "finished"


def full_memory(run: RunSpec, folder: StudyFolder, options: Options, report: OnProgress, stop: ShouldStop) -> Ending:
    """The memory of a GPU is enough for one run, and not for two."""
    import ray

    share = ray.get_runtime_context().get_assigned_resources()["GPU"]
    note(folder, run, str(share))
    if share < 1:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    report(Progress(run_id=run.run_id, phase="finished"))
    return "finished"


def never_enough_memory(
    run: RunSpec, folder: StudyFolder, options: Options, report: OnProgress, stop: ShouldStop
) -> Ending:
    note(folder, run, "asked")
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 80.00 GiB")


def held_twice(run: RunSpec, folder: StudyFolder, options: Options, report: OnProgress, stop: ShouldStop) -> Ending:
    """Another holder's lease has not expired the first two times."""
    return "held" if note(folder, run, "asked") < 3 else "finished"


def hears_nothing_if_residual(
    run: RunSpec, folder: StudyFolder, options: Options, report: OnProgress, stop: ShouldStop
) -> Ending:
    """A residual run stands still, as one whose worker has begun without a head."""
    if run.network == "plain":
        return unhurried(run, folder, options, report, stop)
    until = time.monotonic() + 12
    while time.monotonic() < until:
        time.sleep(0.1)
    return "stopped"


def says_hello(run: RunSpec, folder: StudyFolder, options: Options, report: OnProgress, stop: ShouldStop) -> Ending:
    """Print, warn, and write to stderr below Python."""
    import warnings

    report(Progress(run_id=run.run_id, phase="started", steps=2))
    print("hello from Python")
    warnings.warn("something is odd", stacklevel=1)
    os.write(2, b"hello from a library\n")
    report(Progress(run_id=run.run_id, phase="finished", step=2, steps=2))
    return "finished"


def crashes(run: RunSpec, folder: StudyFolder, options: Options, report: OnProgress, stop: ShouldStop) -> Ending:
    """The worker dies the first time."""
    import signal

    report(Progress(run_id=run.run_id, phase="started"))
    if note(folder, run, "asked") == 1:
        os.write(2, b"a library says why\n")
        os.kill(os.getpid(), signal.SIGSEGV)
    report(Progress(run_id=run.run_id, phase="finished"))
    return "finished"
