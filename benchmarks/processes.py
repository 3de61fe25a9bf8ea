"""Trainings in processes of their own: what one needs of memory, and what several at a time get done."""

import multiprocessing
import resource
import sys
import time
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import torch

from benchmarks.subjects import Ours, data, run_spec
from degradation.environment import Environment
from degradation.spec import Network

Subject = tuple[Network, int, int]  # network, depth, batch
SPAWN = multiprocessing.get_context("spawn")
KIB = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes there, KiB elsewhere


def cost(subject: Subject, environment: Environment, data_dir: Path | None, steps: int) -> dict[str, float]:
    """Milliseconds a step and the peak of memory in MiB that training adds, in a fresh process."""
    with SPAWN.Pool(1) as pool:
        return pool.apply(_cost, (subject, environment, data_dir, steps))


def _cost(subject: Subject, environment: Environment, data_dir: Path | None, steps: int) -> dict[str, float]:
    network, depth, batch = subject
    dataset, images = data(data_dir)
    before = _peak(environment)
    ours = Ours(run_spec(dataset, network, depth, batch), images, environment, steps)
    ours()
    started = time.perf_counter()
    ours()
    _wait(environment)
    taken = time.perf_counter() - started
    return {"ms a step": 1e3 * taken / steps, "peak MiB": (_peak(environment) - before) / 2**20}


def _peak(environment: Environment) -> int:
    """Most bytes ever held: on the device, or by the process."""
    if environment.device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB


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
