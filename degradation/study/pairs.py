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
    """Measurements of one matched pair of done runs.

    ``order`` is None if one of them diverged: its checksum is that of the steps until then. ``extra_weights``
    names the weights that only the residual run has (options B and C); ``circumstances`` what else differed, as
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

    Of each run its specification and its facts are read; what is damaged of those that were looked at before is known.
    """
    snapshot = take_snapshot(folder)
    ended = {found.spec: found.run_id for found in run_statuses(snapshot, study) if found.state in ENDED}
    facts = dict(zip(ended, each(lambda run_id: _facts(snapshot, run_id), ended.values()), strict=True))
    whole = [pair for pair in grid.pairs(ended) if facts[pair.plain] and facts[pair.residual]]
    return tuple(_match((ended[p.plain], ended[p.residual]), facts[p.plain], facts[p.residual]) for p in whole)


def _facts(snapshot: StudySnapshot, run_id: str) -> dict[str, Any]:
    """The facts of a run; none of a damaged one, which is reported elsewhere."""
    try:
        return snapshot.facts(run_id)
    except DamagedError:
        return {}


def _match(runs: tuple[str, str], one: dict[str, Any], other: dict[str, Any]) -> Match:
    whole = one["diverged_step"] is None and other["diverged_step"] is None
    return Match(
        plain=runs[0],
        residual=runs[1],
        weights=one["weight_hash"] == other["weight_hash"],
        order=one["order_checksum"] == other["order_checksum"] if whole else None,
        extra_weights=other["extra_weights"],
        circumstances=_differing(one["provenance"], other["provenance"]),
    )


def _differing(one: dict[str, Any], other: dict[str, Any]) -> str:
    names = [name for name in one | other if name not in INCIDENTAL and one.get(name) != other.get(name)]
    return "; ".join(f"{name} {one.get(name)}, {other.get(name)}" for name in names)


def sentence(found: tuple[Match, ...]) -> str:
    """The proof in one sentence; empty if no pair is done."""
    if not found:
        return ""
    broken = [f"{match.plain} and {match.residual}" for match in found if not match.holds]
    if broken:
        return f"NOT MATCHED, initial weights or order differ: {'; '.join(broken)}"
    differing = [match.circumstances for match in found if match.circumstances]
    note = f"; {len(differing)} in different environments ({differing[0]})" if differing else ""
    early = sum(match.order is None for match in found)
    ended = f" (as far as known for {early} that diverged)" if early else ""
    pairs = f"{len(found)} matched pair{'s' * (len(found) > 1)}"
    return f"{pairs}: equal initial weights; equal order, crops and flips of every image{ended}{note}"
