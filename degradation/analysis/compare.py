"""Two studies -> the same estimates side by side, and b minus a with an interval, if the studies can be compared."""

from collections.abc import Sequence

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
    values = {name: (fields_a.get(name), fields_b.get(name)) for name in [*fields_a, *fields_b]}
    differing = {name: (in_a, in_b) for name, (in_a, in_b) in values.items() if in_a != in_b}
    refusal = f"{a.name} and {b.name} cannot be compared:"
    for name, (in_a, in_b) in differing.items():
        if name.startswith("dataset."):
            raise UserError(f"{refusal} {name} is {in_a} and {in_b}; compare studies of the same images")
    _check_overlap(refusal, "networks", a.study.networks, b.study.networks)
    _check_overlap(refusal, "depths", a.study.depths, b.study.depths)
    several_options = len(_options(a)) > 1 or len(_options(b)) > 1
    of_a, of_b = _by_key(a, several_options), _by_key(b, several_options)
    pairs = [(of_a[key], of_b[key]) for key in of_a if key in of_b]
    comparable = [(in_a, in_b) for in_a, in_b in pairs if in_a.value is not None and in_b.value is not None]
    for in_a, in_b in comparable:
        _check_examples(refusal, in_a, in_b)
    left_out = _left_out(pairs)
    if not comparable:
        reason = f" ({left_out[0]})" if left_out else ""
        raise UserError(
            f"{a.name} and {b.name} have no estimate in common{reason}: "
            "expected done runs of equal network, depth and arm"
        )
    names = [name for name in values if not name.startswith(PRESENTATION)]
    return StudyComparison(
        same=tuple(name for name in names if name not in differing),
        differing={name: differing[name] for name in names if name in differing},
        rows=tuple(_row(in_a, in_b) for in_a, in_b in comparable),
        left_out=left_out,
    )


def _left_out(pairs: Sequence[tuple[Estimate, Estimate]]) -> tuple[str, ...]:
    """A sentence for each network without an error to compare, because all its runs on one side diverged."""
    sentences = []
    for in_a, in_b in pairs:
        for name, each, other in (("a", in_a, in_b), ("b", in_b, in_a)):
            diverged = each.context.get("diverged")
            if each.name == "final-error" and each.value is None and diverged and other.value is not None:
                sentences.append(f"{each.label} is excluded: no run of {name} is left, {diverged} diverged")
    return tuple(dict.fromkeys(sentences))


def _check_overlap(refusal: str, name: str, in_a: Sequence[object], in_b: Sequence[object]) -> None:
    if not set(in_a) & set(in_b):
        values = f"({', '.join(map(str, in_a))}; {', '.join(map(str, in_b))})"
        raise UserError(f"{refusal} they have no {name} in common {values}; compare studies that share one")


def _check_examples(refusal: str, a: Estimate, b: Estimate) -> None:
    in_a, in_b = a.context.get("examples"), b.context.get("examples")
    if in_a != in_b:
        raise UserError(
            f"{refusal} the {a.context['split']} error of {a.label} is of {in_a} and {in_b} examples; "
            "compare errors of the same images"
        )


def _options(results: Results) -> set[str]:
    return {spec.shortcut for spec in results.specs.values() if spec.network == "residual"}


def _by_key(results: Results, several_options: bool) -> dict[tuple[str, ...], Estimate]:
    """The estimates to compare by their definition; also by shortcut option, if a study has several."""
    names = (*KEY, "shortcut") if several_options else KEY
    return {
        (each.name, *(each.context.get(name, "") for name in names)): each
        for each in estimates(results)
        if each.name in COMPARED
        and ("split" not in each.context or (each.context["split"], each.context["statistics"]) in SPLITS)
    }


def _row(a: Estimate, b: Estimate) -> ComparedEstimate:
    kinds = {("train", "final-error"): ", training error", ("test", "final-error"): ", test error"}
    label = f"{a.label}{kinds.get((a.context.get('split', ''), a.name), '')}"
    return ComparedEstimate(label=label, a=a, b=b, difference=difference(a, b, label))


def difference(a: Estimate, b: Estimate, label: str) -> Estimate:
    """b minus a, for factors b over a: paired if both have the same seeds, else Welch's."""
    of_a, of_b = scaled(a), scaled(b)
    paired = a.seeds == b.seeds
    values = [other - one for one, other in zip(of_a, of_b, strict=True)] if paired else []
    interval = of_values(values, PAIRED) if paired else of_difference(of_b, of_a)
    shown = in_factors(interval) if a.unit == "factor" else interval
    notes = [] if paired else [f"not paired: {formatting.seeds(a.n)} and {formatting.seeds(b.n)}"]
    for name, each in (("a", a), ("b", b)):
        notes += [f"{each.context['diverged']} diverged in {name}"] if "diverged" in each.context else []
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
        context={name: value for name, value in a.context.items() if b.context.get(name) == value},
        note="; ".join(notes),
    )
