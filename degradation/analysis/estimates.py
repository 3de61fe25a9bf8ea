"""Results of an analysis as frozen data, convertible to JSON: estimates, verdicts, comparisons, caveats."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Final, Literal, get_args

from degradation.analysis import formatting

VerdictWord = Literal["supported", "contradicted", "not enough evidence", "not measured"]
VERDICTS: tuple[VerdictWord, ...] = get_args(VerdictWord)
NOT_MEASURED: Final = "not measured"

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
    """The verdict of these measurements on one claim; ``literature`` is the verdict of primary sources.

    ``steps``: the steps after which it is judged, if the networks have not converged; else empty.
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
    """Whether this claim alone would be decided, but not among all claims of its group (Holm's adjustment)."""


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
    difference: float | None = None
    within_seeds: bool | None = None
    comparable: bool = False
    why_not: str = ""


@dataclass(frozen=True, kw_only=True)
class Caveat:
    """A limitation of the study that a reader must know; ``kind`` is a short id."""

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


def tally(verdicts: Iterable[Verdict]) -> list[tuple[str, int]]:
    """Each verdict and its number of claims."""
    words = [each.verdict for each in verdicts]
    return [(word, words.count(word)) for word in VERDICTS]


def jsonable(data: Any) -> Any:
    """Dataclasses as dicts with each estimate's sentence, tuples as lists, numbers that are not finite as None."""
    if isinstance(data, Estimate):
        return _fields(data) | {"sentence": data.sentence}
    if is_dataclass(data):
        return _fields(data)
    if isinstance(data, dict):
        return {str(name): jsonable(value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [jsonable(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def _fields(data: Any) -> dict[str, Any]:
    return {each.name: jsonable(getattr(data, each.name)) for each in fields(data)}
