"""One number a run -> estimates over seeds: levels, deep minus shallow, plain minus residual, between shortcuts."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

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
        size = SIZES.get(self.unit, 1.0)
        found = {run.seed: self.values[run.run_id] for run in members if run.run_id in self.values}
        logs = {seed: _logarithm(value) if self.unit == "factor" else size * value for seed, value in found.items()}
        return {seed: value for seed, value in logs.items() if math.isfinite(value)}


def _logarithm(value: float) -> float:
    return math.log10(value) if value > 0 else math.nan


def scaled(estimate: Estimate) -> list[float]:
    """An estimate's values as used for its interval: factors as logarithms (base 10)."""
    return [_logarithm(value) for value in estimate.values] if estimate.unit == "factor" else list(estimate.values)


def as_measured(values: Sequence[float], unit: str) -> tuple[float, ...]:
    """The inverse: logarithms as factors."""
    return tuple(10.0**value if unit == "factor" else value for value in values)


@dataclass(frozen=True, kw_only=True)
class _Sample:
    """Input of an estimate: its texts, one value per seed, and the runs that should have one."""

    name: str
    label: str
    values: dict[int, float]
    members: tuple[Run, ...]
    context: dict[str, str]
    other_interval: str = ""
    method: str = PAIRED
    alone: bool = False
    """Whether only its interval is computed, without alternatives: one of very many."""


def levels(runs: Runs, quantity: Quantity, name: str) -> Iterator[Estimate]:
    """The mean of each network over its seeds."""
    for group, members in runs.groups.items():
        yield _estimate(
            quantity,
            _Sample(
                name=name,
                label=formatting.with_arm(group.label, group.arm),
                values=quantity.by_seed(members),
                members=members,
                context=_of_group(group, members),
                method="t",
            ),
        )


def measured_estimates(estimates: Iterable[Estimate]) -> Iterator[Estimate]:
    """The estimates with a value or with diverged runs; without those never measured."""
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
            yield _difference(quantity, name, formatting.with_arm(label, arm), (above, below), pairing, alone=widest)


def exponents(runs: Runs, quantity: Quantity, name: str) -> Iterator[Estimate]:
    """The power of the depth with which a factor changes between every two depths of a kind, paired by seed."""
    logarithms = {run: _logarithm(value) for run, value in quantity.values.items()}
    found = Quantity(unit="exponent", values=logarithms, context=quantity.context)
    return map(_per_depth, across_depths(runs, found, name))


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
        kept = [(one, other) for one, other in pairs if runs.holds(one.run_id, other.run_id)]
        if not plain:
            continue
        context = _of_group(group, residual) | {"pairing": "matched pair"}
        label = formatting.with_arm(f"plain {group.depth}{_against(quantity)}{group.label}", group.arm)
        sides = tuple(one for one, _ in kept), tuple(other for _, other in kept)
        left_out = len(pairs) - len(kept)
        note = f"{left_out} pair{'s' * (left_out != 1)} excluded: not matched" if left_out else ""
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
        gap = f"{kind} {deep}{_against(quantity)}{kind} {shallow}"
        sample = _Sample(
            name=name,
            label=f"{gap}, {arm}{_against(quantity)}{runs.first_arm}",
            values={seed: above[seed] - below[seed] - first_above[seed] + first_below[seed] for seed in seeds},
            members=tuple(run for each in members for run in each),
            context=_of_group(corners[0], members[0]) | context,
        )
        yield _estimate(quantity, sample)


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
    alone: bool = False,
) -> Estimate:
    minuend, subtrahend = (quantity.by_seed(members) for members in sides)
    welch = of_difference(list(minuend.values()), list(subtrahend.values()))
    other_interval = f"Welch, not paired: {_shown(quantity, welch, True)}" if welch.low is not None else ""
    values = {seed: minuend[seed] - subtrahend[seed] for seed in minuend if seed in subtrahend}
    texts = [note, other_interval if context["pairing"] == "seed" else ""]
    sample = _Sample(
        name=name,
        label=label,
        values=values,
        members=sides[0] + sides[1],
        context=context,
        other_interval="; ".join(filter(None, texts)),
        alone=alone,
    )
    return _estimate(quantity, sample)


def _estimate(quantity: Quantity, sample: _Sample) -> Estimate:
    values = list(sample.values.values())
    interval = of_values(values, sample.method)
    shown = in_factors(interval) if quantity.unit == "factor" else interval
    missing = _missing(quantity, sample)
    resampled = None if sample.alone else bootstrap(values)
    bca = Interval(value=interval.value, low=resampled[0], high=resampled[1], method="BCa") if resampled else None
    none = "no seed in both" if formatting.SIGNED in sample.label else "no seed has a value"
    notes = ["" if values else none, missing, sample.other_interval]
    notes += [f"bootstrap (BCa): {_shown(quantity, bca, formatting.SIGNED in sample.label)}"] if bca else []
    return Estimate(
        name=sample.name,
        label=sample.label,
        unit=quantity.unit,
        value=shown.value,
        low=shown.low,
        high=shown.high,
        n=len(values),
        seeds=tuple(sample.values),
        values=as_measured(values, quantity.unit),
        method=shown.method,
        context=dict(quantity.context) | sample.context | _converged(sample) | _count(quantity, sample),
        note="; ".join(filter(None, notes)),
    )


def _lost(quantity: Quantity, sample: _Sample) -> list[Run]:
    """Diverged runs without this number."""
    return [run for run in sample.members if not run.finished and run.run_id not in quantity.values]


def _converged(sample: _Sample) -> dict[str, str]:
    """Whether every run behind the estimate has converged, of both sides of a difference."""
    return {"converged": "no" if any(run.lacks for run in sample.members) else "yes"}


def _count(quantity: Quantity, sample: _Sample) -> dict[str, str]:
    lost = _lost(quantity, sample)
    return {"diverged": str(len(lost))} if lost else {}


def _missing(quantity: Quantity, sample: _Sample) -> str:
    lost = [f"{run.kind} {run.depth} seed {run.seed}" for run in _lost(quantity, sample)]
    values = [(run, quantity.values[run.run_id]) for run in sample.members if run.run_id in quantity.values]
    odd = [f"{run.kind} {run.depth} seed {run.seed}" for run, value in values if not math.isfinite(value)]
    texts = [f"diverged, left out: {', '.join(lost)}" if lost else ""]
    texts += [f"not finite, left out: {', '.join(odd)}"] if odd else []
    return "; ".join(filter(None, texts))


def _of_group(group: RunGroup, members: Sequence[Run]) -> dict[str, str]:
    first = members[0]
    fixed = {"network": first.network, "kind": group.kind, "shortcut": first.shortcut, "depth": str(group.depth)}
    built = {"norm": first.norm, "block": first.block}
    return fixed | built | {"arm": group.arm, "steps": str(first.steps)}


def _shown(quantity: Quantity, interval: Interval, signed: bool) -> str:
    shown = in_factors(interval) if quantity.unit == "factor" else interval
    if shown.value is None:
        return ""
    return formatting.measured(shown.value, shown.low, shown.high, quantity.unit, signed)
