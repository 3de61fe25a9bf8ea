"""Where and how a run is executed: provenance, not identity. Imports torch only when it is needed."""

import ctypes
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from degradation._version import __version__
from degradation.errors import UserError
from degradation.runtime import distributed
from degradation.spec import Precision

if TYPE_CHECKING:
    import torch

Device = Literal["auto", "cpu", "cuda", "mps"]
DEVICES: tuple[Device, ...] = get_args(Device)
LauncherName = Literal["local", "ray"]
LAUNCHERS: tuple[LauncherName, ...] = get_args(LauncherName)


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of the user; ``None`` and ``auto`` leave the choice to the machine."""

    device: Device = "auto"
    threads: int | None = None
    """CPU threads of each run."""
    deterministic: bool = False
    capture: bool | None = None
    """Whether the step is replayed as a CUDA graph; None: yes on CUDA."""
    compile: bool = False
    """Whether the blocks are compiled with torch.compile; results differ by rounding."""
    sync_batch_norm: bool = False
    """Whether batch norm sees the images of all processes that share a batch."""
    jobs: int | None = None
    """Runs at a time."""
    workers: int | None = None
    """Processes of each run that decode images of a folder; None: one for each of its threads, up to 16."""
    data_dir: Path | None = None
    checkpoint_seconds: float = 60.0
    launcher: LauncherName = "local"
    """What executes the runs: this machine, or the nodes of a Ray cluster."""
    address: str | None = None
    """Address of the Ray cluster: ``auto`` or HOST:PORT; None: Ray is started on this machine."""
    gpus_per_run: float | None = None
    """The share of a GPU that a run takes on a Ray cluster; None: a quarter, more if there are fewer runs."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The environment of a run, all choices made."""

    device: str
    precision: str
    threads: int
    deterministic: bool = False
    capture: bool = False
    compile: bool = False
    processes: int = 1
    """Number of processes that train one network."""
    backend: str = ""
    """Their communication backend: gloo, nccl; empty for one process."""
    sync_batch_norm: bool = False
    workers: int | None = None
    """Processes that decode images of a folder; their number does not change the results."""

    @property
    def torch_device(self) -> "torch.device":
        import torch

        return torch.device(self.device)

    def enter(self) -> None:
        """Set this process up: threads, determinism, and true fp32 (TF32 off) under fp32."""
        import torch

        torch.set_num_threads(self.threads)
        keep_freed_memory()
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = not self.deterministic  # shapes are fixed: one search for the fastest kernel
        if self.deterministic and self.device == "cuda":
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(self.deterministic)

    def as_facts(self) -> dict[str, Any]:
        """The choices by name, without unset ones, and without those of several processes if there is one."""
        omitted = () if self.processes > 1 else OF_SEVERAL
        return {name: value for name, value in asdict(self).items() if value is not None and name not in omitted}


def keep_freed_memory() -> None:
    """Let glibc keep freed memory: the next step needs the same again. Other C libraries are left as they are.

    By default glibc returns blocks of megabytes to the system, which must clear them again page by page: measured, up
    to 18,000 pages and a tenth of the time of a step with probes.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, -1)
        mallopt(M_MMAP_THRESHOLD, 1 << 30)


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


def choose_device(device: Device) -> str:
    """The device; for ``auto`` CUDA, else Apple's MPS, else the CPU. UserError if this machine does not have it."""
    import torch

    is_available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    devices = [name for name, available in is_available.items() if available]
    if device != "auto" and device not in devices:
        raise UserError(
            f"--device {device}: this machine has no such device for torch {torch.__version__}; it has "
            f"{', '.join(devices)}"
        )
    return devices[0] if device == "auto" else device


def choose_environment(options: Options, precision: Precision, jobs: int) -> Environment:
    """The environment of each of ``jobs`` runs at a time; auto precision is bf16 on CUDA, fp32 elsewhere."""
    device = choose_device(options.device)
    processes = distributed.here()
    _check_processes(processes, options, device)
    several = processes.several
    capture = device == "cuda" and not several if options.capture is None else options.capture
    if capture and device != "cuda":
        raise UserError(f"--capture needs CUDA graphs, which device {device} does not have: remove it")
    return Environment(
        device=device,
        precision=precision if precision != "auto" else ("bf16" if device == "cuda" else "fp32"),
        threads=options.threads or max(1, cores() // jobs),
        deterministic=options.deterministic,
        capture=capture,
        compile=options.compile,
        processes=processes.count,
        backend=BACKENDS[device] if several else "",
        sync_batch_norm=options.sync_batch_norm and several,
        workers=options.workers,
    )


OF_SEVERAL = ("processes", "backend", "sync_batch_norm")
BACKENDS = {"cpu": "gloo", "cuda": "nccl"}


def _check_processes(processes: distributed.Processes, options: Options, device: str) -> None:
    """UserError for options that several processes, or a single one, cannot have."""
    if options.sync_batch_norm and device != "cuda":
        raise UserError(
            f"--sync-batch-norm: torch has synchronized batch norm on CUDA only, not on device {device}: remove it, "
            "and each process normalizes its own images (recipe.ghost_batches)"
        )
    if not processes.several:
        return
    if device not in BACKENDS:
        raise UserError(f"{processes.count} processes: torch has no way to share device {device}: take --device cpu")
    if options.capture:
        raise UserError("--capture: a step that several processes share is not captured: remove it")
    if device == "cuda":
        import torch

        if (devices := torch.cuda.device_count()) < processes.local_count:
            raise UserError(
                f"{processes.local_count} processes on a machine with {devices} CUDA devices, one each is needed: "
                f"torchrun --nproc-per-node {devices}"
            )


COUNTS = {"threads": 1, "jobs": 1, "workers": 0}
"""Options that are whole numbers, and the least value of each."""
MOST_COUNT = 2**20
"""Upper bound of any count: examples of a batch, parallel runs of a cluster."""
NODE_PROCESSORS = 1024
"""Most processors of a node of a cluster."""


def greatest_count(name: str, launcher: LauncherName) -> tuple[int, str]:
    """The greatest value of an option of ``COUNTS``, and the reason for it.

    Far above useful values; but thousands of threads never end a step, and as many processes fill the memory.
    """
    if launcher == "ray":  # as many runs as fit on the cluster are trained, the others wait
        return (MOST_COUNT, "") if name == "jobs" else (NODE_PROCESSORS, "no node has as many processors")
    processors = os.cpu_count() or 1
    return max(64, 4 * processors), f"this machine has {processors} processor{'s' if processors > 1 else ''}"


def check_counts(options: Options) -> None:
    """UserError for an impossible number of threads, runs or processes."""
    for name, least in COUNTS.items():
        value, (greatest, why) = getattr(options, name), greatest_count(name, options.launcher)
        if value is None or greatest == MOST_COUNT:
            continue
        if not isinstance(value, int) or not least <= value <= greatest:
            raise UserError(f"--{name}: expected a whole number from {least} to {greatest:,} ({why}), not {value!r}")


CUDA_JOBS, CUDA_JOB_BYTES = 4, 4 * 2**30  # a context and ResNet-110 at batch 128 need less; guessed, not measured


def choose_jobs(options: Options, runs: int) -> int:
    """The number of runs at a time. On a CPU one per core, up to eight: a second thread helps these networks little.

    On a CUDA device up to four, as far as its free memory and the cores allow; one on any other device.
    """
    if distributed.here().several:
        if options.jobs not in (None, 1):
            raise UserError(f"--jobs {options.jobs}: torchrun's processes train one run at a time: remove it")
        return 1
    if options.jobs is not None:
        return max(1, min(options.jobs, runs))
    device = choose_device(options.device)
    if device == "cpu":
        return max(1, min(runs, cores() // (options.threads or 1), 8))
    if device == "cuda":
        import torch

        return max(1, min(runs, cores(), CUDA_JOBS, torch.cuda.mem_get_info()[0] // CUDA_JOB_BYTES))
    return 1


def cores() -> int:
    """CPU cores that this process may use: an equal share if torchrun started several on the machine."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, usable // distributed.here().local_count)


def continued(environment: Environment, facts: dict[str, Any]) -> Environment:
    """The environment with threads, precision and compilation of the run's first start: equal bits need them."""
    return replace(
        environment,
        threads=int(facts["threads"]),
        precision=str(facts["precision"]),
        compile=bool(facts.get("compile", False)),
    )


def provenance(environment: Environment) -> dict[str, Any]:
    """Versions, commit and machine that produced a result."""
    import torch
    import torchvision

    return {
        "version": __version__,
        "commit": commit(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": str(torchvision.__version__),
        "device_name": torch.cuda.get_device_name() if environment.device == "cuda" else processor(),
        "system": f"{platform.system()} {platform.machine()}",
    } | environment.as_facts()


def processor() -> str:
    """The name of the processor, from the operating system."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def commit() -> str:
    """The commit of the checkout that contains this package, ``-dirty`` with changes; else ``unknown``."""
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / ".git").exists():
        return "unknown"
    try:
        described = subprocess.run(
            ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return described.stdout.strip() or "unknown"
