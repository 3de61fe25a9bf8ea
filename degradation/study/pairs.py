"""Done runs -> the proof that their pairs match: equal initial weights, equal order, equal environment."""

from dataclasses import dataclass
from typing import Any

from degradation.errors import DamagedError
from degradation.spec import StudySpec, grid
from degradation.store import StudyFolder
from degradation.study.snapshot import StudySnapshot, each, take_snapshot
from degradation.study.status import ENDED, run_statuses

# Facts that may differ between the runs of a pair: they do not affect the results.
INCIDENTAL = ("commit", "system", "python")


@dataclass(frozen=True, kw_only=True)
class Match:
    """The comparison of two done runs, a matched pair.

    ``order`` is None if one of them diverged: its checksum covers only the steps until then. ``extra_weights``
    names the weights that only the residual run has (options B and C); ``circumstances`` other differences, such as
    ``threads 1, 2``: results may differ by rounding.
    """

    plain: str
    residual: str
    weights: bool
    order: bool | None
    extra_weights: str
    circumstances: str

    @property
    def holds(self) -> bool:
        """Whether weights and, as far as known, order are equal."""
        return self.weights and self.order is not False


def matches(folder: StudyFolder, study: StudySpec) -> tuple[Match, ...]:
    """Every matched pair of the study with two done, undamaged runs.

    The specification and the facts of each run are read; damage that was found earlier is remembered.
    """
    snapshot = take_snapshot(folder)
    ids = {status.spec: status.run_id for status in run_statuses(snapshot, study) if status.state in ENDED}
    facts = dict(zip(ids, each(lambda run_id: _facts(snapshot, run_id), ids.values()), strict=True))
    undamaged = [pair for pair in grid.pairs(ids) if facts[pair.plain] and facts[pair.residual]]
    return tuple(_match((ids[p.plain], ids[p.residual]), facts[p.plain], facts[p.residual]) for p in undamaged)


def _facts(snapshot: StudySnapshot, run_id: str) -> dict[str, Any]:
    """The facts of a run; empty for a damaged run, which is reported elsewhere."""
    try:
        return snapshot.facts(run_id)
    except DamagedError:
        return {}


def _match(run_ids: tuple[str, str], plain: dict[str, Any], residual: dict[str, Any]) -> Match:
    """The match of two runs by their facts."""
    finished = plain["diverged_step"] is None and residual["diverged_step"] is None
    return Match(
        plain=run_ids[0],
        residual=run_ids[1],
        weights=plain["weight_hash"] == residual["weight_hash"],
        order=plain["order_checksum"] == residual["order_checksum"] if finished else None,
        extra_weights=residual["extra_weights"],
        circumstances=_differences(plain["provenance"], residual["provenance"]),
    )


def _differences(plain: dict[str, Any], residual: dict[str, Any]) -> str:
    names = [name for name in plain | residual if name not in INCIDENTAL and plain.get(name) != residual.get(name)]
    return "; ".join(f"{name} {plain.get(name)}, {residual.get(name)}" for name in names)


def sentence(matches: tuple[Match, ...]) -> str:
    """The proof in one sentence; empty if no pair is done."""
    if not matches:
        return ""
    broken = [f"{match.plain} and {match.residual}" for match in matches if not match.holds]
    if broken:
        return f"NOT MATCHED, initial weights or order differ: {'; '.join(broken)}"
    differences = [match.circumstances for match in matches if match.circumstances]
    note = f"; {len(differences)} in different environments ({differences[0]})" if differences else ""
    diverged = sum(match.order is None for match in matches)
    except_diverged = f" (as far as known for {diverged} that diverged)" if diverged else ""
    pairs = f"{len(matches)} matched pair{'s' * (len(matches) > 1)}"
    return f"{pairs}: equal initial weights; equal order, crops and flips of every image{except_diverged}{note}"
