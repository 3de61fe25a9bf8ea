"""Two studies -> the same estimates side by side, and b minus a with an interval, if the studies can be compared."""

from collections.abc import Mapping
from typing import Any

from degradation.analysis import formatting
from degradation.analysis.contrasts import as_measured, scaled
from degradation.analysis.errors import CLAIMED
from degradation.analysis.estimates import ComparedEstimate, Estimate, StudyComparison
from degradation.analysis.estimating import estimates
from degradation.analysis.intervals import PAIRED, in_factors, of_difference, of_values
from degradation.errors import UserError
from degradation.spec import flatten
from degradation.study.results import Results

COMPARED = (
    "final-error",
    "degradation-gap",
    "shortcut-effect",
    "gradient-slope",
    "response-level",
    "response-gap",
    "response-effect",
)
"""Names of the estimates that are compared; of final errors those of the claims, and the test error."""
SPLITS = (CLAIMED, ("test", "running"), ("train_batch", "batch"))
KEY = ("network", "depth", "deep", "shallow", "arm", "split", "statistics", "step")
"""Context that must be equal for an estimate to be the same in both studies."""
Key = tuple[str, ...]
PRESENTATION = ("question", "measure.")
"""Fields that do not change the training: the question, and when it was measured."""


def compare(a: Results, b: Results) -> StudyComparison:
    """Both studies' estimates, and b minus a (for factors b over a).

    Paired by seed if both have the same seeds: equal seeds, images and depth mean equal batches, and for equal
    networks equal initial weights; else Welch's interval. Recipe, initialization, shortcut, seeds and steps may
    differ and are listed. Raises UserError, naming the field, if the data set, the examples of an error, or
    every network or depth differs: such numbers are not comparable.
    """
    fields_a, fields_b = flatten(a.study), flatten(b.study)
    _same_data(a, b, fields_a, fields_b)
    _in_common(a, b, "networks")
    _in_common(a, b, "depths")
    several = len(_options(a)) > 1 or len(_options(b)) > 1
    every = _by_key(a, several), _by_key(b, several)
    of_a, of_b = ({key: each for key, each in side.items() if each.value is not None} for side in every)
    for key in [key for key in of_a if key in of_b]:
        _same_examples(a, b, of_a[key], of_b[key])
    rows = tuple(_row(of_a[key], of_b[key]) for key in of_a if key in of_b)
    left_out = _left_out(*every)
    if not rows:
        lost = f" ({left_out[0]})" if left_out else ""
        shared = f"{a.name} and {b.name} have no estimate in common{lost}"
        raise UserError(f"{shared}: expected done runs of equal network, depth and arm")
    names = [name for name in dict.fromkeys([*fields_a, *fields_b]) if not name.startswith(PRESENTATION)]
    differing = {
        name: (fields_a.get(name), fields_b.get(name)) for name in names if fields_a.get(name) != fields_b.get(name)
    }
    same = tuple(name for name in names if name not in differing)
    return StudyComparison(same=same, differing=differing, rows=rows, left_out=left_out)


def _left_out(of_a: Mapping[Key, Estimate], of_b: Mapping[Key, Estimate]) -> tuple[str, ...]:
    """A sentence for each network without an error to compare, because all its runs on one side diverged."""
    sentences = []
    for key in [key for key in of_a if key in of_b and key[0] == "final-error"]:
        for name, each, other in (("a", of_a[key], of_b[key]), ("b", of_b[key], of_a[key])):
            if each.value is None and "diverged" in each.context and other.value is not None:
                diverged = each.context["diverged"]
                sentences.append(f"{each.label} is excluded: no run of {name} is left, {diverged} diverged")
    return tuple(dict.fromkeys(sentences))


def _same_data(a: Results, b: Results, fields_a: Mapping[str, Any], fields_b: Mapping[str, Any]) -> None:
    names = dict.fromkeys(name for name in [*fields_a, *fields_b] if name.startswith("dataset."))
    for name in names:
        one, other = fields_a.get(name), fields_b.get(name)
        if one != other:
            raise UserError(
                f"{a.name} and {b.name} cannot be compared: {name} is {one} and {other}; "
                "compare studies of the same images"
            )


def _in_common(a: Results, b: Results, name: str) -> None:
    one, other = getattr(a.study, name), getattr(b.study, name)
    if not set(one) & set(other):
        raise UserError(
            f"{a.name} and {b.name} cannot be compared: they have no {name} in common "
            f"({_listed(one)}; {_listed(other)}); compare studies that share one"
        )


def _listed(values: tuple[Any, ...]) -> str:
    return ", ".join(map(str, values))


def _same_examples(a: Results, b: Results, one: Estimate, other: Estimate) -> None:
    mine, theirs = one.context.get("examples"), other.context.get("examples")
    if mine != theirs:
        raise UserError(
            f"{a.name} and {b.name} cannot be compared: the {one.context['split']} error of {one.label} is of {mine} "
            f"and {theirs} examples; compare errors of the same images"
        )


def _options(results: Results) -> set[str]:
    return {spec.shortcut for spec in results.specs.values() if spec.network == "residual"}


def _by_key(results: Results, several: bool) -> dict[Key, Estimate]:
    """The estimates to compare by their definition; also by shortcut option, if a study has several."""
    found = [each for each in estimates(results) if each.name in COMPARED]
    kept = [each for each in found if (each.context.get("split"), each.context.get("statistics")) in _splits(each)]
    names = (*KEY, "shortcut") if several else KEY
    return {(each.name, *(each.context.get(name, "") for name in names)): each for each in kept}


def _splits(estimate: Estimate) -> tuple[tuple[str | None, str | None], ...]:
    return SPLITS if "split" in estimate.context else ((None, None),)


def _row(a: Estimate, b: Estimate) -> ComparedEstimate:
    where = {("train", "final-error"): ", training error", ("test", "final-error"): ", test error"}
    label = f"{a.label}{where.get((a.context.get('split', ''), a.name), '')}"
    return ComparedEstimate(label=label, a=a, b=b, difference=difference(a, b, label))


def difference(a: Estimate, b: Estimate, label: str) -> Estimate:
    """b minus a, for factors b over a: paired if both have the same seeds, else Welch's."""
    of_a, of_b = scaled(a), scaled(b)
    paired = a.seeds == b.seeds
    values = [other - one for one, other in zip(of_a, of_b, strict=True)] if paired else []
    interval = of_values(values, PAIRED) if paired else of_difference(of_b, of_a)
    shown = in_factors(interval) if a.unit == "factor" else interval
    return Estimate(
        name=f"difference of {a.name}",
        label=f"b over a, {label}" if a.unit == "factor" else f"b{formatting.SIGNED}a, {label}",
        unit={"percent": "points"}.get(a.unit, a.unit),
        value=shown.value,
        low=shown.low,
        high=shown.high,
        n=min(a.n, b.n),
        seeds=a.seeds if paired else (),
        values=as_measured(values, a.unit),
        method=shown.method,
        context=_shared(a, b),
        note="; ".join(_notes(a, b, paired)),
    )


def _notes(a: Estimate, b: Estimate, paired: bool) -> list[str]:
    lost = [
        f"{each.context['diverged']} diverged in {name}"
        for name, each in (("a", a), ("b", b))
        if "diverged" in each.context
    ]
    return lost if paired else [f"not paired: {formatting.seeds(a.n)} and {formatting.seeds(b.n)}", *lost]


def _shared(a: Estimate, b: Estimate) -> dict[str, str]:
    return {name: value for name, value in a.context.items() if b.context.get(name) == value}
