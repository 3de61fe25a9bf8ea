"""Made-up rows of the experiments -> their folders beside a made-up study, so that they are read without being done."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from degradation.experiments import REGISTRY, experiment_named
from degradation.frames import schemas
from degradation.spec import RunSpec
from degradation.store import ExperimentFolder, StudyFolder, frame_file
from tests.made_estimators import ESTIMATORS

WHOLE = 0.1  # error of the whole network
ONE = {"plain": 0.8, "residual": 0.14}  # without one block that keeps the shape


def write_experiments(folder: StudyFolder, run: RunSpec, run_id: str) -> None:
    """Every experiment of one done run, of the weights that it kept or did not keep."""
    weights = folder.done(run_id)["files"].get("final.safetensors")
    for name in REGISTRY:
        write_experiment(folder.experiment(name), name, run, run_id, weights)


def write_experiment(place: ExperimentFolder, name: str, run: RunSpec, run_id: str, weights: str | None) -> None:
    columns = experiment_named(name).columns
    rows = pd.DataFrame(list(ROWS[name](run)))
    place.write_spec(run_id, {"experiment": name, "settings": {}, "weights": weights})
    data = schemas.to_parquet(rows[list(columns)].astype(dict(columns)), {})
    place.commit(run_id, "finished", {frame_file(name): data})


def blocks(run: RunSpec) -> list[tuple[int, int, bool]]:
    """Number, stage and whether the shape is kept."""
    n = (run.depth - 2) // 6
    return [(index + 1, index // n + 1, index % n > 0 or index < n) for index in range(3 * n)]


def tried(run: RunSpec, error: float) -> Iterator[dict[str, Any]]:
    for statistics in ("running", "re-estimated"):
        loss = {"loss": 3 * error, "error": error + 0.001 * run.seed, "statistics": statistics}
        yield loss | {"split": "test", "examples": 500, "settings_seed": 0}


def lesion_rows(run: RunSpec) -> Iterator[dict[str, Any]]:
    nothing = {"draw": 0, "block": 0, "name": "", "stage": 0, "keeps_shape": 1, "blocks": "", "how": ""}
    yield from (nothing | {"kind": "intact", "deleted": 0} | row for row in tried(run, WHOLE))
    for number, stage, keeps in blocks(run):
        one = {"kind": "single", "deleted": 1, "block": number, "name": "b", "stage": stage, "keeps_shape": int(keeps)}
        lost = ONE[run.network] if keeps else 0.6 if run.network == "residual" else float("nan")
        yield from (nothing | one | {"blocks": str(number), "how": "off"} | row for row in tried(run, lost))
    for k in (2, 4):
        many = {"kind": "random", "deleted": k, "blocks": "1 2", "how": "off"}
        yield from (nothing | many | row for row in tried(run, min(0.9, ONE[run.network] + 0.1 * k)))


def reorder_rows(run: RunSpec) -> Iterator[dict[str, Any]]:
    for swaps in (0, 1, 4):
        said = {"swaps": swaps, "draw": 0, "order": "1 2 3", "tau": 1 - 0.05 * swaps}
        yield from (said | row for row in tried(run, WHOLE + 0.1 * swaps))


def identity_rows(run: RunSpec) -> Iterator[dict[str, Any]]:
    for number, stage, keeps in blocks(run):
        said = {"block": number, "name": "b", "stage": stage, "split": "test", "statistics": "running"}
        residual = run.network == "residual"
        numbers = {"ratio": 0.5, "change": 0.4} if residual else {"ratio": float("nan"), "change": 1.1}
        against = {"against": "input" if keeps else "shortcut", "cosine": 0.9, "cka": 0.95}
        yield said | numbers | against | {"examples": 500}


ROWS = {"lesion": lesion_rows, "reorder": reorder_rows, "identity": identity_rows} | ESTIMATORS
