"""The machine's ceilings, measured, and the three floors of a training step: arithmetic, bytes, launches."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from degradation import networks
from degradation.spec import RunSpec, grid

SIDE = {"cpu": 2048, "cuda": 8192}  # of the square matrices multiplied
COPIED = {"cpu": 256 * 2**20, "cuda": 2**30}  # bytes
LAUNCHES = 1000


@dataclass(frozen=True, kw_only=True)
class Ceilings:
    """Measured: multiply-adds times two a second, bytes a second (read and written), seconds a small kernel."""

    flops: dict[str, float]
    bytes: float
    launch: float


def ceilings(device: torch.device) -> Ceilings:
    """Medians of several: square matrix products, a copy, and small kernels one after the other.

    On a CUDA device the small kernels are replayed as one graph, as the step is; the floor is theirs there.
    """
    side, kind = SIDE[device.type], device.type
    flops = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        matrix = torch.randn(side, side, device=device, dtype=dtype)
        flops[name] = 2 * side**3 / _seconds(lambda matrix=matrix: matrix @ matrix, device)
    source = torch.ones(COPIED[kind] // 4, device=device)
    target = torch.empty_like(source)
    copied = 2 * COPIED[kind] / _seconds(lambda: target.copy_(source), device)
    return Ceilings(flops=flops, bytes=copied, launch=_launch_seconds(device))


def _launch_seconds(device: torch.device) -> float:
    small = torch.zeros(16, device=device)

    def launches() -> None:
        for _ in range(LAUNCHES):
            small.add_(1)

    if device.type != "cuda":
        return _seconds(launches, device) / LAUNCHES
    from degradation.training.cuda_graph import cuda_graph

    def work() -> torch.Tensor:
        launches()
        return small

    return _seconds(cuda_graph(work), device) / LAUNCHES


def kernels(step: Callable[[], object]) -> int:
    """Kernels that one step launches on a CUDA device, counted by torch's profiler."""
    from torch.profiler import ProfilerActivity, profile

    step()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        step()
        torch.cuda.synchronize()
    return sum(event.device_type == torch.autograd.DeviceType.CUDA for event in seen.events())


def _seconds(work: Callable[[], object], device: torch.device, calls: int = 7) -> float:
    taken = []
    for _ in range(calls + 2):  # the first two warm up
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[2:])


def arithmetic(run: RunSpec, ceiling: Ceilings, precision: str) -> float:
    """Seconds of a step if it were arithmetic alone: 3 x 2 x multiply-adds x batch (forward, and twice backward)."""
    operations = 6 * grid.multiply_adds(run.depth, run.shortcut, run.dataset.size) * run.recipe.batch
    return operations / ceiling.flops[precision]


def bytes_moved(run: RunSpec, precision: str) -> int:
    """Bytes that a step reads and writes at least, if each of its operations touched memory once and nothing fused.

    Counted from the outputs of convolutions, batch norms, ReLUs and shortcuts: written once and read once forward, and
    the same of their gradients and of themselves backward: 5 passes over each (write, read; read again, gradient write,
    gradient read). Weights are small beside them.
    """
    network = networks.for_run(run)
    moved = 0

    def count(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        nonlocal moved
        moved += output.numel()

    for module in network.modules():
        if not list(module.children()) and not isinstance(module, nn.Identity):
            module.register_forward_hook(count)
    with torch.no_grad():
        network(torch.zeros(2, 3, run.dataset.size, run.dataset.size))
    return 5 * moved // 2 * run.recipe.batch * (2 if precision == "bf16" else 4)
