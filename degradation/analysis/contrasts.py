"""One number a run -> estimates over seeds: levels, deep minus shallow, plain minus residual, between shortcuts."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import pandas as pd

from degradation.analysis import formatting
from degradation.analysis.estimates import Estimate
from degradation.analysis.intervals import PAIRED, Interval, bootstrap, in_factors, of_difference, of_values
from degradation.analysis.runs import Run, RunGroup, Runs

SIZES = {"points": 100.0, "percent": 100.0}
"""Unit -> factor for a frame's number: errors are fractions there."""


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One number for each run that has it; ``context`` is what defines it (split, statistics, step, ...).

    With the unit factor the numbers are positive and are averaged as logarithms.
    """

    unit: str
    values: Mapping[str, float]
    context: Mapping[str, str]

    def by_seed(self, members: Sequence[Run]) -> dict[int, float]:
        """Seed -> number in the quantity's unit (logarithm, base 10, of a factor); finite ones only."""
        numbers = {run.seed: self.values[run.run_id] for run in members if run.run_id in self.values}
        if self.unit == "factor":
            numbers = {seed: logarithm(number) for seed, number in numbers.items()}
        size = SIZES.get(self.unit, 1.0)
        return {seed: size * number for seed, number in numbers.items() if math.isfinite(number)}


def by_run(numbers: "pd.Series[Any]") -> dict[str, float]:
    """A series indexed by run_id as the values of a ``Quantity``."""
    return {str(run_id): float(number) for run_id, number in numbers.items()}


def logarithm(number: float) -> float:
    """The logarithm, base 10; NaN if there is none."""
    return math.log10(number) if number > 0 else math.nan


def scaled(estimate: Estimate) -> list[float]:
    """An estimate's values as used for its interval: factors as logarithms (base 10)."""
    return [logarithm(value) if estimate.unit == "factor" else value for value in estimate.values]


def as_measured(values: Sequence[float], unit: str) -> tuple[float, ...]:
    """The inverse of ``scaled``: logarithms as factors."""
    return tuple(10.0**value if unit == "factor" else value for value in values)


def levels(runs: Runs, quantity: Quantity, name: str) -> Iterator[Estimate]:
    """The mean of each network over its seeds."""
    for group, members in runs.groups.items():
        label, context = formatting.with_arm(group.label, group.arm), _of_group(group, members)
        yield _estimate(quantity, name, label, quantity.by_seed(members), members, context, method="t")


def measured_estimates(estimates: Iterable[Estimate]) -> Iterator[Estimate]:
    """The estimates that have a value or diverged runs: those that were measured."""
    return (each for each in estimates if each.n or "diverged" in each.context)


def across_depths(runs: Runs, quantity: Quantity, name: str, *, widest: bool = False) -> Iterator[Estimate]:
    """Deep minus shallow for every two depths of a kind, paired by seed, with Welch's interval as a second one.

    ``widest``: only the deepest minus the shallowest, without a bootstrap, for one step of very many.
    Across depths a seed pairs the order of the batches, not the weights: the pairing may gain little.
    """
    groups = runs.groups
    for arm, kind, depths in runs.kinds():
        for shallow, deep in [(depths[0], depths[-1])] * (len(depths) > 1) if widest else combinations(depths, 2):
            below, above = groups[RunGroup(arm, kind, shallow)], groups[RunGroup(arm, kind, deep)]
            context = _of_group(RunGroup(arm, kind, deep), above)
            context = {"shallow": str(shallow), "deep": str(deep)} | context
            label = f"{kind} {deep}{_against(quantity)}{kind} {shallow}"
            pairing = context | {"pairing": "seed"}
            yield _difference(
                quantity, name, formatting.with_arm(label, arm), (above, below), pairing, resample=not widest
            )


def exponents(runs: Runs, quantity: Quantity, name: str) -> Iterator[Estimate]:
    """The power of the depth with which a factor changes between every two depths of a kind, paired by seed."""
    logarithms = {run_id: logarithm(value) for run_id, value in quantity.values.items()}
    exponent = Quantity(unit="exponent", values=logarithms, context=quantity.context)
    return map(_per_depth, across_depths(runs, exponent, name))


def _per_depth(change: Estimate) -> Estimate:
    """A difference of logarithms over that of the two depths."""
    shallow, deep, arm = (change.context[name] for name in ("shallow", "deep", "arm"))
    size = 1 / math.log10(int(deep) / int(shallow))
    value, low, high = (None if each is None else size * each for each in (change.value, change.low, change.high))
    label = formatting.with_arm(f"exponent of the depth, {change.context['kind']} {shallow} to {deep}", arm)
    values = tuple(size * each for each in change.values)
    return replace(change, label=label, value=value, low=low, high=high, values=values, note="")


def across_kinds(runs: Runs, quantity: Quantity, name: str) -> Iterator[Estimate]:
    """Plain minus residual at one depth, paired by seed, from matched pairs that hold only."""
    for group, residual in _residual(runs):
        plain = runs.groups.get(RunGroup(group.arm, "plain", group.depth), ())
        twins = {run.seed: run for run in plain}
        pairs = [(twins[run.seed], run) for run in residual if run.seed in twins]
        matched = [(one, other) for one, other in pairs if (one.run_id, other.run_id) in runs.matched_ids]
        if not plain:
            continue
        context = _of_group(group, residual) | {"pairing": "matched pair"}
        label = formatting.with_arm(f"plain {group.depth}{_against(quantity)}{group.label}", group.arm)
        sides = tuple(one for one, _ in matched), tuple(other for _, other in matched)
        excluded = len(pairs) - len(matched)
        note = f"{excluded} pair{'s' * (excluded != 1)} excluded: not matched" if excluded else ""
        yield _difference(quantity, name, label, sides, context, note)


def across_shortcuts(runs: Runs, quantity: Quantity, name: str) -> Iterator[Estimate]:
    """Options B, C, ... minus the identity (A) at one depth, paired by seed."""
    for group, members in _residual(runs):
        identity = runs.groups.get(RunGroup(group.arm, "residual A", group.depth), ())
        if not identity or group.kind == "residual A":
            continue
        context = _of_group(group, members) | {"pairing": "seed"}
        label = formatting.with_arm(f"{group.label}{_against(quantity)}residual A {group.depth}", group.arm)
        yield _difference(quantity, name, label, (members, identity), context)


def across_arms(runs: Runs, quantity: Quantity, name: str) -> Iterator[Estimate]:
    """Each arm minus the study's first, for every network that both have, paired by seed.

    Equal seeds mean equal batches if the arms have the same batch size, and equal initial weights if the
    networks and their initialization are equal.
    """
    for group, members in runs.groups.items():
        first = runs.groups.get(group._replace(arm=runs.first_arm), ())
        if first and group.arm != runs.first_arm:
            context = _of_group(group, members) | {"against": runs.first_arm, "pairing": "seed"}
            label = f"{group.label}, {group.arm}{_against(quantity)}{runs.first_arm}"
            yield _difference(quantity, name, label, (members, first), context)


def gaps_across_arms(runs: Runs, quantity: Quantity, name: str) -> Iterator[Estimate]:
    """The gap between deepest and shallowest network in an arm minus that in the first arm, paired by seed."""
    depths_of = {(arm, kind): depths for arm, kind, depths in runs.kinds()}
    for (arm, kind), depths in depths_of.items():
        common = sorted(set(depths) & set(depths_of.get((runs.first_arm, kind), ())))
        if arm == runs.first_arm or len(common) < 2:
            continue
        shallow, deep = common[0], common[-1]
        corners = [RunGroup(each, kind, depth) for each in (arm, runs.first_arm) for depth in (deep, shallow)]
        members = [runs.groups[corner] for corner in corners]
        above, below, first_above, first_below = map(quantity.by_seed, members)
        seeds = [seed for seed in above if seed in below and seed in first_above and seed in first_below]
        context = {"shallow": str(shallow), "deep": str(deep), "against": runs.first_arm, "pairing": "seed"}
        label = f"{kind} {deep}{_against(quantity)}{kind} {shallow}, {arm}{_against(quantity)}{runs.first_arm}"
        values = {seed: above[seed] - below[seed] - first_above[seed] + first_below[seed] for seed in seeds}
        every = tuple(run for each in members for run in each)
        yield _estimate(quantity, name, label, values, every, _of_group(corners[0], members[0]) | context)


def _against(quantity: Quantity) -> str:
    return formatting.OVER if quantity.unit == "factor" else formatting.SIGNED


def _residual(runs: Runs) -> Iterator[tuple[RunGroup, tuple[Run, ...]]]:
    return ((group, members) for group, members in runs.groups.items() if group.kind != "plain")


def _difference(
    quantity: Quantity,
    name: str,
    label: str,
    sides: tuple[tuple[Run, ...], tuple[Run, ...]],
    context: dict[str, str],
    note: str = "",
    *,
    resample: bool = True,
) -> Estimate:
    minuend, subtrahend = (quantity.by_seed(members) for members in sides)
    values = {seed: minuend[seed] - subtrahend[seed] for seed in minuend if seed in subtrahend}
    welch = of_difference(list(minuend.values()), list(subtrahend.values()))
    notes = [note]
    if context["pairing"] == "seed" and welch.low is not None:
        notes.append(f"Welch, not paired: {_shown(quantity, welch, True)}")
    return _estimate(quantity, name, label, values, sides[0] + sides[1], context, notes, resample=resample)


def _estimate(
    quantity: Quantity,
    name: str,
    label: str,
    values: Mapping[int, float],
    members: tuple[Run, ...],
    context: Mapping[str, str],
    notes: Sequence[str] = (),
    *,
    method: str = PAIRED,
    resample: bool = True,
) -> Estimate:
    """An estimate from one value a seed; ``members`` are all runs that should have one.

    ``resample``: whether to bootstrap as well; too slow for very many estimates.
    """
    numbers, signed = list(values.values()), formatting.SIGNED in label
    interval = of_values(numbers, method)
    shown = in_factors(interval) if quantity.unit == "factor" else interval
    diverged = [run for run in members if not run.finished and run.run_id not in quantity.values]
    not_finite = [run for run in members if not math.isfinite(quantity.values.get(run.run_id, 0.0))]
    all_notes = ["" if values else "no seed in both" if signed else "no seed has a value"]
    for reason, left_out in (("diverged", diverged), ("not finite", not_finite)):
        names = ", ".join(f"{run.kind} {run.depth} seed {run.seed}" for run in left_out)
        all_notes.append(f"{reason}, left out: {names}" if left_out else "")
    all_notes += notes
    if resample and (bounds := bootstrap(numbers)):
        bca = Interval(value=interval.value, low=bounds[0], high=bounds[1], method="BCa")
        all_notes.append(f"bootstrap (BCa): {_shown(quantity, bca, signed)}")
    converged = {"converged": "no" if any(run.lacks for run in members) else "yes"}
    return Estimate(
        name=name,
        label=label,
        unit=quantity.unit,
        value=shown.value,
        low=shown.low,
        high=shown.high,
        n=len(values),
        seeds=tuple(values),
        values=as_measured(numbers, quantity.unit),
        method=shown.method,
        context={**quantity.context, **context, **converged, **({"diverged": str(len(diverged))} if diverged else {})},
        note="; ".join(filter(None, all_notes)),
    )


def _of_group(group: RunGroup, members: Sequence[Run]) -> dict[str, str]:
    first = members[0]
    network = {"network": first.network, "kind": group.kind, "shortcut": first.shortcut, "depth": str(group.depth)}
    return network | {"norm": first.norm, "block": first.block, "arm": group.arm, "steps": str(first.steps)}


def _shown(quantity: Quantity, interval: Interval, signed: bool) -> str:
    shown = in_factors(interval) if quantity.unit == "factor" else interval
    if shown.value is None:
        return ""
    return formatting.measured(shown.value, shown.low, shown.high, quantity.unit, signed)
