"""A study's arms -> effects of block gates and orders, of more steps, and the best learning rate."""

from collections.abc import Iterator
from dataclasses import replace

from degradation.analysis.contrasts import Quantity, across_arms, across_depths, measured_estimates
from degradation.analysis.errors import CLAIMED, TESTED, final
from degradation.analysis.estimates import Estimate
from degradation.analysis.runs import Run, Runs
from degradation.spec import flatten
from degradation.study.results import Results

LONGER = 3
"""Multiple of the first arm's steps, as He et al. 2015, footnote 3, trained their plain networks."""
RATES = ("recipe.learning_rate", "recipe.warmup_learning_rate")
FEWEST_RATES = 3


def variants(results: Results, runs: Runs) -> Iterator[Estimate]:
    """``variant-effect`` (points of test error): residual networks with a gate or another order minus the first arm's.

    Only if the first arm has the paper's block, so that only the block differs.
    """
    if runs.first_arm and {run.block for run in runs.every if run.arm == runs.first_arm} == {""}:
        for effect in across_arms(runs, final(results["curves"], runs, *TESTED), "variant-effect"):
            variant = effect.context["block"].split(" ")[0]
            if variant in ("gate", "order") and effect.context["network"] == "residual":
                yield replace(effect, context=effect.context | {"variant": variant})


def more_steps(results: Results, runs: Runs) -> Iterator[Estimate]:
    """``longer-gap`` (points): the degradation gap in arms of ``LONGER`` times the first arm's steps, or more."""
    first_steps = {run.steps for run in runs.every if run.arm == runs.first_arm}
    if runs.first_arm and first_steps:
        longer = replace(runs, every=tuple(run for run in runs.every if run.steps >= LONGER * max(first_steps)))
        yield from across_depths(longer, final(results["curves"], longer, *CLAIMED), "longer-gap")


def best_rate(results: Results, runs: Runs) -> Iterator[Estimate]:
    """``best-rate-gap`` (factor): the best learning rate of the deeper network over that of the shallower one.

    The best is that of the arm with the lowest final training error, seed by seed; only if the arms differ in the rate
    alone and there are ``FEWEST_RATES`` of them.
    """
    rates = {run.run_id: results.specs[run.run_id].recipe.learning_rate for run in runs.every}
    if len(set(rates.values())) < FEWEST_RATES:
        return
    errors = final(results["curves"], runs, *CLAIMED).values
    by_network: dict[tuple[str, int, int], list[Run]] = {}
    for run in runs.every:
        by_network.setdefault((run.kind, run.depth, run.seed), []).append(run)
    best = []
    for members in by_network.values():
        fields, *other_fields = ({**flatten(results.specs[run.run_id]), **dict.fromkeys(RATES)} for run in members)
        if any(other != fields for other in other_fields):
            return
        best.append(replace(min(members, key=lambda run: errors.get(run.run_id, 1.0)), arm=""))
    context = {"split": CLAIMED[0], "statistics": CLAIMED[1], "step": "last"}
    quantity = Quantity(unit="factor", values={run.run_id: rates[run.run_id] for run in best}, context=context)
    at_best = replace(runs, every=tuple(best), first_arm="")
    for gap in measured_estimates(across_depths(at_best, quantity, "best-rate-gap")):
        yield replace(gap, label=f"best learning rate, {gap.label}")
