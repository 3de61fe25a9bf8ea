"""A study's arms -> effects of block gates and orders, of more steps, and the best learning rate."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

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
    first = {run.block for run in runs.every if run.arm == runs.first_arm}
    if runs.first_arm and first == {""}:
        effects = across_arms(runs, final(results["curves"], runs, *TESTED), "variant-effect")
        for each in effects:
            variant = each.context["block"].split(" ")[0]
            if variant in ("gate", "order") and each.context["network"] == "residual":
                yield replace(each, context=each.context | {"variant": variant})


def more_steps(results: Results, runs: Runs) -> Iterator[Estimate]:
    """``longer-gap`` (points): the degradation gap in arms of ``LONGER`` times the first arm's steps, or more."""
    at_first = {run.steps for run in runs.every if run.arm == runs.first_arm}
    if runs.first_arm and at_first:
        longer = replace(runs, every=tuple(run for run in runs.every if run.steps >= LONGER * max(at_first)))
        yield from across_depths(longer, final(results["curves"], longer, *CLAIMED), "longer-gap")


def best_rate(results: Results, runs: Runs) -> Iterator[Estimate]:
    """``best-rate-gap`` (factor): the best learning rate of the deeper network over that of the shallower one.

    The best is that of the arm with the lowest final training error, seed by seed; only if the arms differ in the rate
    alone and there are ``FEWEST_RATES`` of them.
    """
    rates = {run.run_id: results.specs[run.run_id].recipe.learning_rate for run in runs.every}
    if len(set(rates.values())) < FEWEST_RATES or not _rates_alone(results, runs):
        return
    errors = final(results["curves"], runs, *CLAIMED).values
    networks: dict[tuple[str, int, int], list[Run]] = {}
    for run in runs.every:
        networks.setdefault((run.kind, run.depth, run.seed), []).append(run)
    best = [min(found, key=lambda run: errors.get(run.run_id, 1.0)) for found in networks.values()]
    at_best = replace(runs, every=tuple(replace(run, arm="") for run in best), first_arm="")
    context = {"split": CLAIMED[0], "statistics": CLAIMED[1], "step": "last"}
    quantity = Quantity(unit="factor", values={run.run_id: rates[run.run_id] for run in best}, context=context)
    for each in measured_estimates(across_depths(at_best, quantity, "best-rate-gap")):
        yield replace(each, label=f"best learning rate, {each.label}")


def _rates_alone(results: Results, runs: Runs) -> bool:
    """Whether runs of one network and seed are equal in every field but the learning rates."""
    found: dict[tuple[str, int, int], Any] = {}
    for run in runs.every:
        fields = {name: value for name, value in flatten(results.specs[run.run_id]).items() if name not in RATES}
        if found.setdefault((run.kind, run.depth, run.seed), fields) != fields:
            return False
    return True
