"""Made-up numbers -> a finished study in a folder, so that the reading half is tested without training.

The numbers have the shapes that the paper reports: deeper plain networks end at a higher error, residual ones
do not; gradients of early layers and responses of deep residual networks are small. They are no measurements.
"""

import json
import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from degradation.frames import schemas
from degradation.spec import BlockSpec, RunSpec, StudyRecipe, StudySpec, flatten, grid, nest, schedules
from degradation.store import FACTS, StudyFolder, frame_file
from tests.made_experiments import write_experiments

PROVENANCE = {
    "version": "0.1.0",
    "commit": "unknown",
    "torch": "2.11.0",
    "device": "cpu",
    "precision": "fp32",
    "threads": 2,
}
STEP_DIVERGED = 100

RunKey = tuple[str, int, int]
"""Network, depth, seed."""


def make_study(
    root: Path,
    name: str = "made",
    *,
    steps: int = 640,
    diverged: Collection[RunKey] = (),
    experiments: bool = True,
    **fields: Any,
) -> StudyFolder:
    """A study with every run done and, unless without, every experiment carried out on those that did not diverge.

    ``fields`` are the StudySpec's: depths, seeds, networks, shortcuts, ... Runs of ``diverged`` have no row from step
    100 on. A plain network of depth 110 or more ends with a running-statistics error far above the one with batch
    statistics.
    """
    fields = {"depths": (20, 44), "seeds": (0, 1, 2)} | fields
    study = StudySpec(recipe=StudyRecipe(steps=steps), **fields)
    folder = StudyFolder(root, name)
    folder.write_study(study.begun().model_dump(mode="json"))
    for run in grid.runs(study):
        lost = (run.network, run.depth, run.seed) in diverged
        write_run(folder, run, diverged=lost)
        if experiments and not lost:
            write_experiments(folder, run, run.run_id)
    return folder


def write_run(folder: StudyFolder, run: RunSpec, *, diverged: bool = False, old_id: str = "") -> None:
    """One done run with every frame that its probes fill; with an ``old_id`` as schema 1 left it under that id."""
    run_id = old_id or run.run_id
    folder.write_spec(run_id, older(run) if old_id else run.model_dump(mode="json"))
    files = {FACTS: json.dumps(facts(run, diverged=diverged)).encode()}
    for name in ("curves", *run.measure.probes):
        rows = [row for row in ROWS[name](run) if not diverged or row["step"] < STEP_DIVERGED]
        files[frame_file(name)] = schemas.to_parquet(schemas.frame(name, rows), PROVENANCE)
    folder.commit(run_id, "diverged" if diverged else "finished", files)


BLOCK = tuple(f"block.{name}" for name in BlockSpec.model_fields)
RECIPE = ("recipe.optimizer", "recipe.beta2", "recipe.ghost_batches", "recipe.colour")
LACKING = ("family", "norm", "width", "initialization", *RECIPE, *BLOCK)
"""What schema 1 lacked."""


def older(run: RunSpec) -> dict[str, Any]:
    """The fields of a run as schema 1 wrote them."""
    return nest({name: value for name, value in flatten(run).items() if name not in LACKING}) | {"schema_number": 1}


def facts(run: RunSpec, *, diverged: bool) -> dict[str, Any]:
    """What a run's facts.json holds; the pair shares its weight hash and its order checksum."""
    return {
        "parameters": grid.parameters_of(run),
        "weight_hash": f"{run.depth:04x}{run.seed:04x}",
        "extra_weights": "",
        "order_checksum": f"{1_000_003 * (run.seed + 1):016x}",
        "diverged_step": STEP_DIVERGED if diverged else None,
        "wall_seconds": 12.5,
        "provenance": PROVENANCE,
    }


def final_error(run: RunSpec) -> float:
    """The clean training error (batch statistics) that the made run ends at, a fraction."""
    growth = 0.0016 if run.network == "plain" else -0.0004
    return (
        0.09 + growth * (run.depth - 20) + 0.004 * (run.seed % 5) ** 1.5 + {"B": 0.006, "C": 0.012}.get(run.shortcut, 0)
    )


def curve(run: RunSpec, step: int) -> float:
    """Error at a step: from 0.9 down, with a drop at each milestone of the learning rate."""
    progress = step / run.recipe.steps
    first, second = (milestone / run.recipe.steps for milestone in run.recipe.milestones)
    plateau = final_error(run) * (1 + 0.8 * (progress < first) + 0.15 * (progress < second))
    wobble = 0.01 * math.sin(31 * progress + run.seed) * (progress < 1)
    rate = 9 * max(1.0, run.recipe.steps / 6_400)  # so that 64,000 steps converge, and 640 do not
    return plateau + wobble + (0.9 - plateau) * math.exp(-rate * progress)


def curve_rows(run: RunSpec) -> Iterator[dict[str, Any]]:
    for step in schedules.default(run.recipe.steps)[1:]:
        yield curve_row(run, step, "train_running", "batch", curve(run, step) + 0.015)
    for step in schedules.every(max(1, run.recipe.steps // 16), run.recipe.steps)[1:]:
        lost = 0.3 * step / run.recipe.steps if run.network == "plain" and run.depth >= 110 else 0.002
        for split, gap in (("train", 0.0), ("test", 0.04)):
            yield curve_row(run, step, split, "batch", curve(run, step) + gap)
            yield curve_row(run, step, split, "running", curve(run, step) + gap + lost)


def curve_row(run: RunSpec, step: int, split: str, statistics: str, error: float) -> dict[str, Any]:
    examples = run.dataset.test_examples if split == "test" else run.dataset.train_examples
    rates = sum(step >= milestone for milestone in run.recipe.milestones)
    return {
        "step": step,
        "epoch": run.recipe.batch * step / run.dataset.train_examples,
        "split": split,
        "statistics": statistics,
        "loss": 3 * error,
        "error": error,
        "examples": examples,
        "learning_rate": run.recipe.learning_rate / 10**rates,
    }


def layers(run: RunSpec) -> Iterator[tuple[int, str, int]]:
    """Number, name and stage of the 6n+1 convolutions."""
    n = (run.depth - 2) // 6
    yield 1, "conv1", 1
    for index in range(6 * n):
        stage, block, conv = index // (2 * n) + 1, index % (2 * n) // 2, index % 2 + 1
        yield index + 2, f"layer{stage}.{block}.conv{conv}", stage


def gradient_rows(run: RunSpec) -> Iterator[dict[str, Any]]:
    noise = np.random.default_rng([run.seed, run.depth])
    slope = 2.0 if run.network == "plain" else 0.4
    every_layer = [*layers(run), (run.depth, "linear", 4)]
    for step in schedules.default(run.recipe.steps):
        calm = 1 / (1 + 9 * step / run.recipe.steps)
        for number, name, stage in every_layer:
            norm = calm * 10 ** (-slope * run.depth / 110 * (1 - number / run.depth)) * noise.uniform(0.8, 1.25)
            yield {
                "step": step,
                "layer": number,
                "name": name,
                "stage": stage,
                "weight_grad_norm": norm,
                "weight_norm": 10.0,
                "update_norm": math.nan if step == run.recipe.steps else 0.1 * norm,
                "response_grad_norm": norm / 10,
                "response_grad_rms": norm / 1e4,
            }


def response_rows(run: RunSpec) -> Iterator[dict[str, Any]]:
    noise = np.random.default_rng([run.seed, run.depth, run.network == "plain"])
    size = 1.0 if run.norm == "batch" else 0.05
    target = 1.0 if run.network == "plain" else 0.75 - 0.1 * math.log(run.depth / 20)
    for step in schedules.default(run.recipe.steps):
        trained = 1 - math.exp(-4 * step / run.recipe.steps)
        for number, name, stage in layers(run):
            shape = 1 + 0.25 * (stage - 2) + (0.1 if number % 2 else -0.1)
            yield {
                "step": step,
                "layer": number,
                "name": name,
                "stage": stage,
                "split": "train_batch",
                "statistics": "batch",
                "examples": run.recipe.batch,
                "mean": -0.1 * trained,
                "std": (1 + trained * (target * shape * noise.uniform(0.9, 1.1) - 1)) * size,
                "zero_fraction": 0.5 + 0.1 * trained,
            }


def branch_rows(run: RunSpec) -> Iterator[dict[str, Any]]:
    noise = np.random.default_rng([run.seed, run.depth, 7])
    n = (run.depth - 2) // 6
    for step in schedules.default(run.recipe.steps) if run.network == "residual" else ():
        trained = step / run.recipe.steps
        for index in range(3 * n):
            branch = (1 - 0.6 * trained) * noise.uniform(0.85, 1.15)
            shortcut = math.sqrt(1 + (index % n) * (1 - 0.5 * trained))
            yield {
                "step": step,
                "block": index + 1,
                "name": f"layer{index // n + 1}.{index % n}",
                "stage": index // n + 1,
                "split": "train_batch",
                "statistics": "batch",
                "branch_std": branch,
                "shortcut_std": shortcut,
                "ratio": branch / shortcut,
            }


ROWS = {"curves": curve_rows, "gradients": gradient_rows, "responses": response_rows, "branches": branch_rows}
