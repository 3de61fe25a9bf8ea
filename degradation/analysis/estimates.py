"""Results of an analysis as frozen data, convertible to JSON: estimates, verdicts, comparisons, caveats."""

import math
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Literal

from degradation.analysis import formatting

VerdictWord = Literal["supported", "contradicted", "not enough evidence", "not measured"]
VERDICTS: tuple[VerdictWord, ...] = ("supported", "contradicted", "not enough evidence", "not measured")

ONE_SEED = "one seed: no interval"
ALL_EQUAL = "all seeds equal: no interval"
CENSORED = "censored"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One quantity of a study over its seeds.

    ``unit`` is points (percentage points of error, a difference), percent (a level of error), factor, steps or std.
    ``value`` is the mean over seeds (for factors the geometric mean); None if it is censored or not defined.
    ``low`` and ``high`` are the 95 % interval; None if there is none, and ``method`` says why. ``seeds`` and
    ``values`` hold one entry for each seed that has a value; ``n`` counts them all. ``context`` is what defines it.
    """

    name: str
    label: str
    unit: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    method: str
    context: dict[str, str] = field(default_factory=dict)
    note: str = ""

    @property
    def signed(self) -> bool:
        """Whether it is a difference, whose sign is always shown."""
        return formatting.SIGNED in self.label

    @property
    def sentence(self) -> str:
        """``plain 44 minus plain 8: +14.2 points [+11.9, +16.5], 3 seeds``."""
        if self.value is None:
            return f"{self.label}: {self.note or 'not defined'}"
        text = f"{self.label}: {formatting.measured(self.value, self.low, self.high, self.unit, self.signed)}"
        if self.low is None:
            return f"{text}, {self.method}" if self.n == 1 else f"{text}, {formatting.seeds(self.n)}, {self.method}"
        return f"{text}, {formatting.seeds(self.n)}"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict of these measurements on one claim; ``literature`` is that of primary sources.

    ``steps``: after which it is judged, if the networks have not converged; else empty.
    """

    claim: str
    statement: str
    steps: tuple[int, ...]
    source: str
    literature: str
    verdict: VerdictWord
    why: str
    threshold: str
    estimates: tuple[Estimate, ...] = ()
    needs: str = ""
    alone: bool = False
    """Whether it would be decided alone, but not among all claims of its group (Holm's adjustment)."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published number: an error as a fraction, a response as a standard deviation.

    ``reading_error`` is that of a value read from a figure, else 0; ``runs``: number of runs in its mean.
    """

    name: str
    source: str
    network: str
    depth: int
    shortcut: str
    split: str
    statistics: str
    quantity: str
    value: float
    reading_error: float = 0.0
    at: str = "end"
    note: str = ""
    runs: int = 1


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A published number and the measured one.

    ``difference`` is measured minus published, in the published number's unit; None if they cannot be compared,
    and ``why_not`` says why. ``within_seeds``: whether the spread over seeds explains it; None if it is unknown.
    """

    published: Published
    measured: Estimate | None
    difference: float | None
    within_seeds: bool | None
    comparable: bool
    why_not: str = ""


@dataclass(frozen=True, kw_only=True)
class Caveat:
    """A limitation of the study that a reader must know; ``kind`` is a slug."""

    kind: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """The results of a study's frames, as text and numbers."""

    answer: tuple[str, ...]
    estimates: tuple[Estimate, ...]
    verdicts: tuple[Verdict, ...]
    compared: tuple[Compared, ...]
    caveats: tuple[Caveat, ...]
    holm: str
    convergence: str
    """When a run counts as converged."""

    def as_json(self) -> dict[str, Any]:
        """The analysis as JSON-able data in a stable order; numbers that are not finite become None."""
        return _fields(self)


@dataclass(frozen=True, kw_only=True)
class ComparedEstimate:
    """The same estimate in two studies, and b minus a."""

    label: str
    a: Estimate
    b: Estimate
    difference: Estimate


@dataclass(frozen=True, kw_only=True)
class StudyComparison:
    """Two studies side by side: the fields in which they are the same, those in which they differ, the estimates."""

    same: tuple[str, ...]
    differing: dict[str, tuple[Any, Any]]
    rows: tuple[ComparedEstimate, ...]
    left_out: tuple[str, ...] = ()
    """Estimates without a number on one side because runs diverged, each with the reason."""

    def as_json(self) -> dict[str, Any]:
        """The comparison as JSON-able data in a stable order."""
        return _fields(self)


def jsonable(found: Any) -> Any:
    """Dataclasses as dicts with each estimate's sentence, tuples as lists, numbers that are not finite as None."""
    if isinstance(found, Estimate):
        return {name: jsonable(value) for name, value in asdict(found).items()} | {"sentence": found.sentence}
    if is_dataclass(found):
        return _fields(found)
    if isinstance(found, dict):
        return {str(name): jsonable(value) for name, value in found.items()}
    if isinstance(found, list | tuple):
        return [jsonable(value) for value in found]
    return None if isinstance(found, float) and not math.isfinite(found) else found


def _fields(found: Any) -> dict[str, Any]:
    return {each.name: jsonable(getattr(found, each.name)) for each in fields(found)}
