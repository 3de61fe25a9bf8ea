"""Trainings in processes of their own: what one needs of memory, and what several at a time get done."""

import multiprocessing
import time
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import torch

from benchmarks.subjects import Ours, data, run_spec
from benchmarks.timing import alternate
from degradation.runtime.environment import Environment
from degradation.spec import Network

Subject = tuple[Network, int, int]  # network, depth, batch
TURNS = 5
SPAWN = multiprocessing.get_context("spawn")


def cost(subject: Subject, environment: Environment, data_dir: Path | None, steps: int) -> dict[str, float]:
    """Milliseconds a step and the peak of memory in MiB that training adds, in a fresh process."""
    with SPAWN.Pool(1) as pool:
        return pool.apply(_cost, (subject, environment, data_dir, steps))


def _cost(subject: Subject, environment: Environment, data_dir: Path | None, steps: int) -> dict[str, float]:
    network, depth, batch = subject
    dataset, images = data(data_dir)
    before = _fresh_peak(environment)
    ours = Ours(run_spec(dataset, network, depth, batch), images, environment, steps)
    taken = alternate({"ours": ours}, TURNS, environment.torch_device)["ours"].median
    return {"ms a step": 1e3 * taken / steps, "peak MiB": (_peak(environment) - before) / 2**20}


def _fresh_peak(environment: Environment) -> int:
    """Forget the peak so far, which reading the images may have made, and return what is held now."""
    if environment.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: sets VmHWM back to VmRSS
    return _peak(environment)


def _peak(environment: Environment) -> int:
    """Most bytes held since: on the device, or by the process."""
    if environment.device == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def _wait(environment: Environment) -> None:
    if environment.device == "cuda":
        torch.cuda.synchronize()


def together(jobs: int, subject: Subject, environment: Environment, data_dir: Path | None, steps: int) -> float:
    """Images a second of ``jobs`` trainings at a time, the threads shared among them."""
    shared = replace(environment, threads=max(1, environment.threads // jobs))
    barrier, answers = SPAWN.Barrier(jobs), SPAWN.Queue()
    work = (subject, shared, data_dir, steps)
    processes = [SPAWN.Process(target=_train, args=(barrier, answers, *work)) for _ in range(jobs)]
    for process in processes:
        process.start()
    seconds = max(answers.get() for _ in processes)
    for process in processes:
        process.join()
    return jobs * steps * subject[2] / seconds


def _train(
    barrier: Barrier, answers: Any, subject: Subject, environment: Environment, data_dir: Path | None, steps: int
) -> None:
    network, depth, batch = subject
    dataset, images = data(data_dir)
    ours = Ours(run_spec(dataset, network, depth, batch), images, environment, steps)
    ours()  # the first steps set up
    _wait(environment)
    barrier.wait()
    started = time.perf_counter()
    ours()
    _wait(environment)
    answers.put(time.perf_counter() - started)
