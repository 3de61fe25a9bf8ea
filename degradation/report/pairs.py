"""Done runs of a study -> the proof, value by value, that their matched pairs match."""

from dataclasses import dataclass
from typing import Any

from degradation.analysis.formatting import field_value
from degradation.spec import RunSpec, flatten
from degradation.study.pairs import Match, matches, sentence
from degradation.study.results import Results

THE_PAIR = ("network", "shortcut")  # the only fields in which a plain run and its residual match may differ


@dataclass(frozen=True, kw_only=True)
class PairRow:
    """One matched pair of done runs; in every pair of values the plain run's is first."""

    arm: str
    """Empty in a study without arms."""
    depth: int
    seed: int
    shortcut: str
    runs: tuple[str, str]
    parameters: tuple[int, int]
    weights: tuple[str, str]
    """Hash of the tensors passed to the first step; for options B and C, of those that both runs have."""
    orders: tuple[str, str]
    """Checksum of the indices, crops and flips that the steps used."""
    fields: str
    """The fields in which the two runs differ, other than network and shortcut; may be empty."""
    match: Match

    @property
    def weights_text(self) -> str:
        extra = f"; only the residual run has {self.match.extra_weights}" if self.match.extra_weights else ""
        return ("equal" if self.match.weights else "DIFFERENT") + extra

    @property
    def orders_text(self) -> str:
        if self.match.order is None:
            return "not comparable: one of them diverged"
        return "equal" if self.match.order else "DIFFERENT"


@dataclass(frozen=True, kw_only=True)
class Field:
    """A field of the runs' specifications: its values in the plain and in the residual runs of the pairs."""

    name: str
    plain: str
    residual: str
    same: bool


@dataclass(frozen=True, kw_only=True)
class Proof:
    """All pairs, the fields of their specifications side by side, and the conclusion in one sentence."""

    sentence: str
    pairs: tuple[PairRow, ...]
    fields: tuple[Field, ...]


def proof(results: Results) -> Proof:
    """The proof from the run folders; empty if no pair has both runs done.

    Weight hashes, order checksums and parameters were recorded by the runs; the fields are those in their folders.
    """
    pairs = matches(results.folder, results.study)
    rows = [_row(results, match) for match in pairs]
    return Proof(
        sentence=sentence(pairs),
        pairs=tuple(sorted(rows, key=lambda row: (row.arm, row.shortcut, row.depth, row.seed))),
        fields=_fields([(results.specs[match.plain], results.specs[match.residual]) for match in pairs]),
    )


def _row(results: Results, match: Match) -> PairRow:
    plain, residual = results.facts[match.plain], results.facts[match.residual]
    spec = results.specs[match.residual]
    ours, theirs = flatten(results.specs[match.plain]), flatten(spec)
    differing = [name for name in ours | theirs if name not in THE_PAIR and ours.get(name) != theirs.get(name)]
    return PairRow(
        arm=results.arms[match.residual],
        depth=spec.depth,
        seed=spec.seed,
        shortcut=spec.shortcut,
        runs=(match.plain, match.residual),
        parameters=(plain["parameters"], residual["parameters"]),
        weights=(plain["weight_hash"], residual["weight_hash"]),
        orders=(plain["order_checksum"], residual["order_checksum"]),
        fields=", ".join(differing),
        match=match,
    )


def _fields(pairs: list[tuple[RunSpec, RunSpec]]) -> tuple[Field, ...]:
    """Each field once, with all its values in the pairs: ``same`` if it is equal within every pair."""
    flat = [(flatten(plain), flatten(residual)) for plain, residual in pairs]
    names = dict.fromkeys(name for couple in flat for fields in couple for name in fields)
    return tuple(
        Field(
            name=name,
            plain=_values([plain.get(name) for plain, _ in flat]),
            residual=_values([residual.get(name) for _, residual in flat]),
            same=all(plain.get(name) == residual.get(name) for plain, residual in flat),
        )
        for name in names
    )


def _values(values: list[Any]) -> str:
    """The distinct values as text: a list as its items, nothing as ``not set``."""
    return "; ".join(dict.fromkeys(map(field_value, values)))
