"""The content of a report -> rows of text cells, the same for the page and for Markdown."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from degradation.analysis import Analysis, Compared, Estimate, formatting
from degradation.analysis.estimates import VERDICTS
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
ESTIMATES = ("what", "estimate [95% interval]", "seeds", "each seed", "how")
LABELLED = ("network", "kind", "shortcut", "depth", "shallow", "deep", "arm", "censored")  # already in the other cells
COMPARED = ("network", "error", "source", "published", "measured", "difference", "within seed variation")


def pair_rows(proof: Proof) -> list[Row]:
    """``PAIRS`` for each matched pair; an equal value is shown once, different ones both."""
    return [
        (
            style.in_arm(row.arm, f"depth {row.depth}, shortcut {row.shortcut}, seed {row.seed}"),
            _both(*(f"{count:,}" for count in row.parameters)),
            _both(*row.weights),
            row.weights_text,
            _both(*row.orders),
            row.orders_text,
            row.fields or "none",
        )
        for row in proof.pairs
    ]


def _both(plain: str, residual: str) -> str:
    return f"{plain} and {residual}"


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


def tally(analysis: Analysis) -> list[tuple[str, int]]:
    """Each verdict and its number of claims."""
    return [(word, sum(verdict.verdict == word for verdict in analysis.verdicts)) for word in VERDICTS]


@dataclass(frozen=True, kw_only=True)
class EstimateGroup:
    """The estimates of one kind: their shared definition once, and a row for each."""

    heading: str
    throughout: str
    headings: Row
    rows: list[Row]


def estimate_groups(estimates: Iterable[Estimate]) -> list[EstimateGroup]:
    """The estimates by kind, in the analysis' own order."""
    return [_group(name, list(found)) for name, found in itertools.groupby(estimates, key=lambda each: each.name)]


def _group(name: str, estimates: list[Estimate]) -> EstimateGroup:
    contexts = [{key: value for key, value in each.context.items() if key not in LABELLED} for each in estimates]
    shared = {key: value for key, value in contexts[0].items() if all(each.get(key) == value for each in contexts)}
    own = [_words({key: value for key, value in each.items() if key not in shared}) for each in contexts]
    rows = [(*estimate_row(estimate), differing) for estimate, differing in zip(estimates, own, strict=True)]
    some = any(own)
    return EstimateGroup(
        heading=name.replace("-", " ").capitalize(),
        throughout=f"For all rows: {_words(shared)}",
        headings=(*ESTIMATES, "of") if some else ESTIMATES,
        rows=rows if some else [row[:-1] for row in rows],
    )


def _words(context: Mapping[str, str]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in context.items() if value)


def estimate_row(estimate: Estimate) -> Row:
    """``ESTIMATES`` of one."""
    unit, signed = estimate.unit, estimate.signed
    each = ", ".join(formatting.number(value, unit, signed=signed) for value in estimate.values)
    told = estimate.note if estimate.value is not None else ""  # without a value, the note takes its place
    how = "; ".join(part for part in (estimate.method, told) if part)
    return estimate.label, value_of(estimate), str(estimate.n), each or "none", how


def value_of(estimate: Estimate) -> str:
    """Value, unit and interval as text, or why there is none."""
    if estimate.value is None:
        return estimate.note or "not defined"
    return formatting.measured(estimate.value, estimate.low, estimate.high, estimate.unit, estimate.signed)


def compared_rows(compared: Iterable[Compared]) -> list[Row]:
    """``COMPARED`` for each published value that is comparable with a measured one."""
    return list(_compared(row for row in compared if row.comparable))


def _compared(rows: Iterable[Compared]) -> Iterator[Row]:
    for row in rows:
        known = row.published
        kind = known.network if known.shortcut == "none" else f"{known.network} {known.shortcut}"
        scale = 100 if known.quantity == "error" else 1
        read = f" ± {scale * known.reading_error:.2g}" if known.reading_error else ""
        within = {True: "yes", False: "no", None: "not known"}[row.within_seeds]
        yield (
            f"{kind} {known.depth}",
            f"{known.quantity}, {known.split}, {known.at}",
            known.source,
            f"{scale * known.value:.4g}{' %' if scale == 100 else ''}{read}",
            value_of(row.measured) if row.measured else "not measured",
            "" if row.difference is None else f"{scale * row.difference:+.2f}{' points' if scale == 100 else ''}",
            within,
        )


def incomparable(compared: Iterable[Compared]) -> list[str]:
    """Why published values are not compared: each reason once, with its number of values."""
    rows = list(compared)
    if not rows:
        return ["No published value is of these networks, or none of these runs has ended."]
    reasons: dict[str, int] = {}
    for row in rows:
        if not row.comparable:
            reasons[row.why_not] = reasons.get(row.why_not, 0) + 1
    found = [f"{count} published value{'s' * (count > 1)} not compared: {why}" for why, count in reasons.items()]
    return [sentence if sentence.endswith(".") else f"{sentence}." for sentence in found]
