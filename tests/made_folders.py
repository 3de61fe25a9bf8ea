"""A StudySpec -> a study folder whose runs are all done, with made-up frames of the size that training leaves."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import save

from degradation.frames import schemas
from degradation.spec import RunSpec, StudyRecipe, StudySpec, grid
from degradation.store import DONE, FACTS, SPEC, WEIGHTS, StudyFolder, frame_file, sealed
from tests.made_frames import PROVENANCE, ROWS, facts

PAPER = StudySpec(depths=(20, 32, 44, 56, 110), seeds=tuple(range(100)), recipe=StudyRecipe())
"""The paper's depths and steps with a hundred seeds: 1,000 runs, 87 measured steps each."""
SAME = ("epoch", "learning_rate")
"""Measured numbers that are equal for every seed."""


def make_folders(root: Path, name: str, study: StudySpec) -> StudyFolder:
    """Every run of the study done, valid by the store's rule; the seeds of a network share one file of weights.

    About 15 ms a run of the paper's size. The weights are hard links: read and hashed like others, stored once.
    """
    folder = StudyFolder(root, name)
    folder.write_study(study.begun().model_dump(mode="json"))
    (root / ".weights").mkdir()
    for network in _networks(study):
        tables = {each: schemas.frame(each, list(ROWS[each](network[0]))) for each in ("curves", *study.measure.probes)}
        weights = _weights(root / ".weights", network[0])
        for run in network:
            _write(folder, run, tables, weights)
    return folder


def _networks(study: StudySpec) -> Iterator[list[RunSpec]]:
    """The runs of each network, by seed."""
    groups: dict[tuple[str, int, str], list[RunSpec]] = {}
    for run, arm in grid.arms(study).items():
        groups.setdefault((arm, run.depth, run.shortcut), []).append(run)
    yield from groups.values()


def _weights(folder: Path, run: RunSpec) -> Path:
    """As many random numbers as the network has parameters."""
    numbers = np.random.default_rng(run.depth).standard_normal(grid.parameters_of(run), dtype=np.float32)
    file = folder / f"{run.network}-{run.depth}.safetensors"
    file.write_bytes(save({"weights": numbers}))
    return file


def _write(folder: StudyFolder, run: RunSpec, tables: dict[str, pd.DataFrame], weights: Path) -> None:
    place = folder.run_path(run.run_id)
    place.mkdir()
    (place / WEIGHTS).hardlink_to(weights)
    files = {SPEC: sealed(run.model_dump(mode="json")), FACTS: sealed(facts(run, diverged=False))}
    noise = np.random.default_rng([run.seed, run.depth, run.network == "plain"])
    for name, table in tables.items():
        files[frame_file(name)] = schemas.to_parquet(_scattered(table, noise), PROVENANCE)
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    hashes[WEIGHTS] = hashlib.sha256((place / WEIGHTS).read_bytes()).hexdigest()
    files[DONE] = sealed({"status": "finished", "files": dict(sorted(hashes.items()))})
    for name, data in files.items():
        (place / name).write_bytes(data)


def _scattered(table: pd.DataFrame, noise: np.random.Generator) -> pd.DataFrame:
    """The frame of another seed: every measured number a few percent larger or smaller."""
    measured = [name for name in table.select_dtypes("float64") if name not in SAME]
    return table.assign(**{name: table[name] * np.exp(0.05 * noise.standard_normal(len(table))) for name in measured})
