"""Plans, run statuses and outcomes -> the JSON documents that ``--json`` prints."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from degradation.spec import StudySpec, grid
from degradation.store import StudyFolder
from degradation.study.pairs import matches
from degradation.study.status import ENDED, FinalError, RunStatus

if TYPE_CHECKING:
    from degradation.launchers.runner import Outcome


def plan_document(folder: StudyFolder, study: StudySpec, run_statuses: Sequence[RunStatus]) -> dict[str, Any]:
    """The study, its planned runs and its matched pairs."""
    ids = {run_status.spec: run_status.run_id for run_status in run_statuses}
    return {
        "name": folder.name,
        "path": str(folder.path),
        "study": study.model_dump(mode="json"),
        "labels": study.labels,
        "milestones": study.recipe.milestones,
        "runs": [_run(run_status) for run_status in run_statuses],
        "pairs": [[ids[pair.plain], ids[pair.residual]] for pair in grid.pairs(ids)],
    }


def _run(run_status: RunStatus) -> dict[str, Any]:
    spec = run_status.spec
    return {
        "run_id": run_status.run_id,
        "network": spec.network,
        "shortcut": spec.shortcut,
        "arm": run_status.arm,
        "depth": spec.depth,
        "seed": spec.seed,
        "parameters": grid.parameters_of(spec),
        "multiply_adds": grid.multiply_adds_of(spec),
        "warmup_steps": spec.recipe.warmup_steps,
        "state": run_status.state,
        "note": run_status.note,
    }


def status_document(
    folder: StudyFolder, study: StudySpec, rows: Sequence[tuple[RunStatus, dict[str, Any] | None]], **checks: Any
) -> dict[str, Any]:
    """Every planned run with its state and its last row, and the results of the checks."""
    runs = [_run(run_status) | {"last_row": row} for run_status, row in rows]
    return {"name": folder.name, "path": str(folder.path), "labels": study.labels, "runs": runs, **checks}


def studies_document(
    rows: Sequence[tuple[str, Sequence[RunStatus]]], damaged: Mapping[str, str]
) -> list[dict[str, Any]]:
    """The studies on disk with the number of done runs; for one that cannot be read, the reason."""
    readable = [
        {"name": name, "done": sum(run_status.state in ENDED for run_status in group), "runs": len(group)}
        for name, group in rows
    ]
    return [*readable, *({"name": name, "damaged": why} for name, why in damaged.items())]


def outcome_document(
    folder: StudyFolder, study: StudySpec, outcome: "Outcome", errors: Sequence[FinalError]
) -> dict[str, Any]:
    """The outcome of a study: its runs by ending, and the final clean training errors (fractions)."""
    return {
        "name": folder.name,
        "path": str(folder.path),
        "labels": study.labels,
        **asdict(outcome),
        "final_training_errors": [asdict(error) for error in errors],
        "matched_pairs": [asdict(match) | {"holds": match.holds} for match in matches(folder, study)],
    }


def print_json(document: Any) -> None:
    """Print the document on stdout."""
    print(json.dumps(document, indent=1))
