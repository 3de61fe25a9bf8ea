"""The content of a report -> rows of text cells, the same for the page and for Markdown."""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from degradation.analysis import Compared, Estimate, formatting
from degradation.analysis.estimates import NOT_MEASURED
from degradation.figures import style
from degradation.report.pairs import THE_PAIR, Field, Proof

Row = tuple[str, ...]

PAIRS = (
    "pair",
    "parameters",
    "hash of the initial weights",
    "weights",
    "checksum of order, crops, flips",
    "order",
    "other fields that differ",
)
ESTIMATES: Row = ("what", "estimate [95% interval]", "seeds", "each seed", "how")
LABELLED = ("network", "kind", "shortcut", "depth", "shallow", "deep", "arm", "censored")  # already in the other cells
COMPARED = ("network", "error", "source", "published", "measured", "difference", "within seed variation")


def pair_rows(proof: Proof) -> list[Row]:
    """``PAIRS`` for each matched pair; of a couple of values the plain run's is first."""
    return [
        (
            style.in_arm(row.arm, f"depth {row.depth}, shortcut {row.shortcut}, seed {row.seed}"),
            " and ".join(f"{count:,}" for count in row.parameters),
            " and ".join(row.weights),
            row.weights_text,
            " and ".join(row.orders),
            row.orders_text,
            row.fields or "none",
        )
        for row in proof.pairs
    ]


def field_rows(proof: Proof) -> list[Row]:
    """Name, plain value, residual value and whether they are equal within every pair, for each field."""
    return [(field.name, field.plain, field.residual, _same(field)) for field in proof.fields]


def _same(field: Field) -> str:
    if field.name in THE_PAIR:
        return "differs, as intended"
    return "equal" if field.same else "DIFFERENT"


def difference_sentence(proof: Proof) -> str:
    """The differences between the two specifications of a pair, in one sentence."""
    differing = sorted({row.fields for row in proof.pairs if row.fields})
    return f"Differences in the specifications other than network and shortcut: {'; '.join(differing) or 'none'}."


@dataclass(frozen=True, kw_only=True)
class EstimateGroup:
    """The estimates of one kind: their shared definition once, and a row for each."""

    heading: str
    throughout: str
    headings: Row
    rows: list[Row]


def estimate_groups(estimates: Iterable[Estimate]) -> list[EstimateGroup]:
    """The estimates by kind, in the analysis' own order."""
    return [_group(name, list(group)) for name, group in itertools.groupby(estimates, key=lambda each: each.name)]


def _group(name: str, estimates: list[Estimate]) -> EstimateGroup:
    contexts = [{key: value for key, value in each.context.items() if key not in LABELLED} for each in estimates]
    shared = {key: value for key, value in contexts[0].items() if all(each.get(key) == value for each in contexts)}
    rows, headings = [estimate_row(each) for each in estimates], ESTIMATES
    differing = [_words({key: value for key, value in each.items() if key not in shared}) for each in contexts]
    if any(differing):
        headings = (*ESTIMATES, "of")
        rows = [(*row, context) for row, context in zip(rows, differing, strict=True)]
    heading = name.replace("-", " ").capitalize()
    return EstimateGroup(heading=heading, throughout=f"For all rows: {_words(shared)}", headings=headings, rows=rows)


def _words(context: Mapping[str, str]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in context.items() if value)


def estimate_row(estimate: Estimate) -> Row:
    """``ESTIMATES`` of one estimate."""
    numbers = [formatting.number(value, estimate.unit, signed=estimate.signed) for value in estimate.values]
    note = estimate.note if estimate.value is not None else ""  # without a value, the note takes its place
    how = "; ".join(filter(None, (estimate.method, note)))
    return estimate.label, value_of(estimate), str(estimate.n), ", ".join(numbers) or "none", how


def value_of(estimate: Estimate) -> str:
    """Value, unit and interval as text, or why there is none."""
    if estimate.value is None:
        return estimate.note or "not defined"
    return formatting.measured(estimate.value, estimate.low, estimate.high, estimate.unit, estimate.signed)


def compared_rows(compared: Iterable[Compared]) -> list[Row]:
    """``COMPARED`` for each published value that is comparable with a measured one."""
    return [_compared_row(row) for row in compared if row.comparable]


def _compared_row(row: Compared) -> Row:
    published = row.published
    kind = published.network if published.shortcut == "none" else f"{published.network} {published.shortcut}"
    scale, percent, points = (100, " %", " points") if published.quantity == "error" else (1, "", "")
    reading_error = f" ± {scale * published.reading_error:.2g}" if published.reading_error else ""
    return (
        f"{kind} {published.depth}",
        f"{published.quantity}, {published.split}, {published.at}",
        published.source,
        f"{scale * published.value:.4g}{percent}{reading_error}",
        value_of(row.measured) if row.measured else NOT_MEASURED,
        "" if row.difference is None else f"{scale * row.difference:+.2f}{points}",
        {True: "yes", False: "no", None: "not known"}[row.within_seeds],
    )


def incomparable(compared: Iterable[Compared]) -> list[str]:
    """Why published values are not compared: each reason once, with its number of values."""
    rows = list(compared)
    if not rows:
        return ["No published value is of these networks, or none of these runs has ended."]
    reasons = Counter(row.why_not for row in rows if not row.comparable)
    return [
        f"{count} published value{'s' * (count > 1)} not compared: {reason.removesuffix('.')}."
        for reason, count in reasons.items()
    ]
