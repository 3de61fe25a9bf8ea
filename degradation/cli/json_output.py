"""Plans, standings and outcomes -> the JSON documents that ``--json`` prints."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from degradation.spec import StudySpec, grid
from degradation.store import StudyFolder
from degradation.study.pairs import matches
from degradation.study.status import ENDED, FinalError, Standing

if TYPE_CHECKING:
    from degradation.launchers.runner import Outcome


def plan_document(folder: StudyFolder, study: StudySpec, standings: Sequence[Standing]) -> dict[str, Any]:
    ids = {standing.spec: standing.run_id for standing in standings}
    return {
        "name": folder.name,
        "path": str(folder.path),
        "study": study.model_dump(mode="json"),
        "labels": study.labels,
        "milestones": study.recipe.milestones,
        "runs": [_run(standing) for standing in standings],
        "pairs": [[ids[pair.plain], ids[pair.residual]] for pair in grid.pairs(ids)],
    }


def _run(standing: Standing) -> dict[str, Any]:
    spec = standing.spec
    return {
        "run_id": standing.run_id,
        "network": spec.network,
        "shortcut": spec.shortcut,
        "arm": standing.arm,
        "depth": spec.depth,
        "seed": spec.seed,
        "parameters": grid.parameters_of(spec),
        "multiply_adds": grid.multiply_adds_of(spec),
        "warmup_steps": spec.recipe.warmup_steps,
        "state": standing.state,
        "note": standing.note,
    }


def status_document(
    folder: StudyFolder, study: StudySpec, rows: Sequence[tuple[Standing, dict[str, Any] | None]]
) -> dict[str, Any]:
    """Every planned run with its state and its last row."""
    runs = [_run(standing) | {"last_row": row} for standing, row in rows]
    return {"name": folder.name, "path": str(folder.path), "labels": study.labels, "runs": runs}


def studies_document(
    rows: Sequence[tuple[str, Sequence[Standing]]], damaged: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Studies on disk with how many of their runs are done; of one that cannot be read, why."""
    ended = {name: sum(standing.state in ENDED for standing in group) for name, group in rows}
    known = [{"name": name, "done": ended[name], "runs": len(group)} for name, group in rows]
    return [*known, *({"name": name, "damaged": why} for name, why in damaged.items())]


def outcome_document(
    folder: StudyFolder, study: StudySpec, outcome: "Outcome", errors: Sequence[FinalError]
) -> dict[str, Any]:
    """What became of a study: its runs by ending, and the final clean training errors (fractions)."""
    return {
        "name": folder.name,
        "path": str(folder.path),
        "labels": study.labels,
        **asdict(outcome),
        "final_training_errors": [asdict(error) for error in errors],
        "matched_pairs": [asdict(match) | {"holds": match.holds} for match in matches(folder, study)],
    }


def print_json(document: Any) -> None:
    """The document on stdout."""
    print(json.dumps(document, indent=1))
