"""The sections of the benchmark: each turns a Bench into rows of one table."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import launching
from benchmarks.agreement import distances, one_ulp_away
from benchmarks.floors import arithmetic, bytes_moved, ceilings, kernels
from benchmarks.folders import folders
from benchmarks.processes import cost, together
from benchmarks.reference import NaiveProbe, Reference
from benchmarks.requests import requests
from benchmarks.subjects import Ours, run_spec, whole_run
from benchmarks.timing import Timed, alternate
from degradation.data import load_images
from degradation.data.images import Images
from degradation.runtime.environment import Environment
from degradation.spec import Dataset, Network, grid, schedules
from degradation.study import library

NETS: tuple[tuple[Network, int], ...] = (("residual", 20), ("plain", 56))
DEPTHS = (8, 20, 32, 56, 110)
BATCHES = (32, 64, 128, 256, 512)

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What every section works with; ``rounds`` alternations of ``steps`` steps."""

    dataset: Dataset
    images: Images
    environment: Environment
    data_dir: Path | None
    rounds: int
    steps: int

    @property
    def device(self) -> torch.device:
        return self.environment.torch_device

    def ours(self, network: Network, depth: int, batch: int = 128, **changes: Any) -> Ours:
        """Our training with some of the environment changed."""
        environment = replace(self.environment, **changes)
        return Ours(run_spec(self.dataset, network, depth, batch), self.images, environment, self.steps)

    def timed(self, works: dict[str, Callable[[], object]]) -> dict[str, Timed]:
        return alternate(works, self.rounds, self.device)


def speed(bench: Bench) -> list[Row]:
    """Training steps against the reference loop, in every kind of step that the device has, and against the floors."""
    ceiling = ceilings(bench.device)
    rows = []
    for network, depth in NETS if bench.device.type == "cpu" else (*NETS, ("residual", 110)):
        spec = run_spec(bench.dataset, network, depth)
        works: dict[str, Callable[[], object]] = {
            "reference": Reference(spec, bench.images, bench.device, bench.steps)
        } | {name: bench.ours(network, depth, **changes) for name, changes in kinds(bench.device).items()}
        for name, timed in (found := bench.timed(works)).items():
            seconds = timed.median / bench.steps
            precision = "bf16" if "bf16" in name else "fp32"
            rows.append(
                {
                    "network": f"{network}-{depth}",
                    "step": name,
                    "ms a step": 1e3 * seconds,
                    "images/s": spec.recipe.batch / seconds,
                    "s per 50,000 images": 50_000 * seconds / spec.recipe.batch,
                    "x reference": found["reference"].median / timed.median,
                    "x arithmetic floor": seconds / arithmetic(spec, ceiling, precision),
                    "x bytes floor": seconds * ceiling.bytes / bytes_moved(spec, precision),
                    "x launch floor": launches(bench, works[name], ceiling.launch, seconds),
                    "spread": f"{1e3 * timed.least / bench.steps:.1f} to {1e3 * timed.greatest / bench.steps:.1f}",
                }
            )
    return rows


def launches(bench: Bench, work: Callable[[], object], launch: float, seconds: float) -> float | None:
    """The step as a multiple of its kernels' launches alone; None on a CPU, which launches none."""
    if bench.device.type != "cuda" or not isinstance(work, Ours):
        return None
    return seconds / (launch * kernels(work.training.stepper.train))


def kinds(device: torch.device) -> dict[str, dict[str, Any]]:
    """Our kinds of step by name, as changes of the environment."""
    found: dict[str, dict[str, Any]] = {}
    for precision in ("fp32", "bf16"):
        found[precision] = {"precision": precision, "capture": device.type == "cuda"}
        if device.type == "cuda":
            found[f"{precision} eager"] = {"precision": precision, "capture": False}
        found[f"{precision} compiled"] = found[precision] | {"compile": True}
    return found


def probes(bench: Bench) -> list[Row]:
    """Steps with all probes on each, and with the naive probe, against steps without."""
    rows = []
    for precision in ("fp32", "bf16"):
        for network, depth in NETS:
            ours = bench.ours(network, depth, precision=precision)
            measured = bench.ours(network, depth, precision=precision)
            naive = bench.ours(network, depth, precision=precision, capture=False)
            found = bench.timed(
                {
                    "without": ours,
                    "every step": lambda measured=measured: measured(probe_every=1),
                    "naive": lambda naive=naive: with_naive_probe(naive),
                }
            )
            without, every, slow = (found[name].median / bench.steps for name in ("without", "every step", "naive"))
            rows.append(
                {
                    "network": f"{network}-{depth}",
                    "precision": precision,
                    "ms a step": 1e3 * without,
                    "ms with probes": 1e3 * every,
                    "every step, x": every / without,
                    "naive probe, x": slow / without,
                    "added time, naive over ours": (slow - without) / (every - without),
                }
            )
    return rows


def with_naive_probe(ours: Ours) -> None:
    """Steps of ours under the naive probe."""
    stepper = ours.training.stepper
    original = stepper._backward
    responses = [str(layer.response) for layer in stepper.layout.responding]
    with NaiveProbe(stepper.state.network, responses) as naive:

        def looked_at(*arguments: Any) -> Any:
            gradients, outputs = original(*arguments)
            naive.gradients(gradients)
            return gradients, outputs

        stepper._backward = looked_at  # type: ignore[method-assign]
        ours()
    del stepper._backward


def cadence(bench: Bench) -> list[Row]:
    """Whole runs of the quickstart, probes at the default cadence against none; nothing else is evaluated."""
    study = library.read(library.shipped()["quickstart"])
    images = load_images(study.dataset, None)
    rows = []
    for run in (run for run in grid.runs(study) if run.depth == 20 and run.seed == 0):
        works = {}
        for name, names in (("with", run.measure.probes), ("without", ())):
            measure = run.measure.model_copy(update={"probes": names, "eval_every": run.recipe.steps})
            changed = run.model_copy(update={"measure": measure})
            works[name] = partial(whole_run, changed, images, bench.environment)
        found = bench.timed(works)
        measured = len(schedules.default(run.recipe.steps))
        rows.append(
            {
                "network": f"{run.network}-{run.depth}",
                "steps": run.recipe.steps,
                "measured": measured,
                "s without": found["without"].median,
                "s with": found["with"].median,
                "x": found["with"].median / found["without"].median,
            }
        )
    return rows


def jobs(bench: Bench) -> list[Row]:
    """Several trainings at a time, in processes, against one after the other."""
    rows = []
    counts = (1, 2) if bench.device.type == "cpu" else (1, 2, 4, 8)
    for network, depth in NETS:
        each = {count: _together(bench, count, (network, depth, 128)) for count in counts}
        rows += [
            {"network": f"{network}-{depth}", "at a time": count, "images/s, all": rate, "x one": rate / each[1]}
            for count, rate in each.items()
        ]
    return rows


def _together(bench: Bench, count: int, subject: tuple[Network, int, int]) -> float:
    rates = [together(count, subject, bench.environment, bench.data_dir, 2 * bench.steps) for _ in range(3)]
    return sorted(rates)[1]


def costs(bench: Bench) -> list[Row]:
    """Time and peak memory against depth at batch 128, and against batch at depth 20; what the shortcut costs."""
    subjects = [(network, depth, 128) for depth in DEPTHS for network in ("plain", "residual")]
    subjects += [(network, 20, batch) for batch in BATCHES if batch != 128 for network in ("plain", "residual")]
    return [
        {"network": network, "depth": depth, "batch": batch}
        | cost((network, depth, batch), bench.environment, bench.data_dir, bench.steps)
        for network, depth, batch in subjects
    ]


def agreement(bench: Bench) -> list[Row]:
    """How far the other kinds of fp32 step are from the eager one, beside one ulp at the start."""
    rows = []
    for network, depth in NETS:
        others = {
            name: bench.ours(network, depth, **changes)
            for name, changes in kinds(bench.device).items()
            if changes["precision"] == "fp32" and (changes["capture"] or "compile" in changes)
        }
        others["one ulp apart at the start"] = one_ulp_away(bench.ours(network, depth, capture=False))
        found = distances(bench.ours(network, depth, capture=False), others)
        rows += [{"network": f"{network}-{depth}"} | row for row in found]
    return rows


SECTIONS: dict[str, Callable[[Bench], list[Row]]] = {
    "speed": speed,
    "probes": probes,
    "cadence": cadence,
    "jobs": jobs,
    "costs": costs,
    "agreement": agreement,
    "folders": lambda _: folders(),
    "scheduling": lambda _: launching.scheduling(),
    "weak": lambda _: launching.weak(),
    "requests": lambda _: requests(),
}
