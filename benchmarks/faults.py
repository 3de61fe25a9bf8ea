"""`python -m benchmarks.faults`: which planted faults a recording's summary names, and what it says of healthy runs.

Precision: of the kinds of findings of all runs, the right ones over these and those that are neither right nor come of
the fault; any of a healthy run is wrong. Recall: of the runs with a fault, those where a finding is of the right kind.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import typer

import degradation
from benchmarks.planted import FAULTS, HEALTHY, NETWORKS, Fault, Setup, made, train
from degradation.recording.findings import EXPLODING

STEPS, EVERY = 30, 5
PLAIN = frozenset({EXPLODING})
"""What is true of the plain network of 50 layers with batch norm as it begins, whatever else is wrong."""
UNSEEN = ("noise for labels",)
"""Faults that gradients, responses, weights and updates do not show."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training, and the kinds that its recording found."""

    network: str
    fault: str
    seed: int
    found: frozenset[str]
    right: frozenset[str] = frozenset()
    follows: frozenset[str] = frozenset()
    losses: tuple[float, float] = (0.0, 0.0)
    """At the first and at the last step."""

    @property
    def hit(self) -> bool:
        return bool(self.found & self.right)

    @property
    def wrong(self) -> frozenset[str]:
        return self.found - self.right - self.follows


def run(setup: Setup, network: str, name: str, seed: int, fault: Fault | None = None) -> Run:
    """Train as ``setup`` says, in a recording."""
    torch.manual_seed(1000 + seed)
    model = made(setup)
    with degradation.record(model, every=EVERY) as rec:
        losses = train(setup, model, STEPS)
    found = frozenset(one.kind for one in rec.findings)
    ends = (losses[0], sum(losses[-5:]) / 5)
    if fault is None:
        return Run(network=network, fault=name, seed=seed, found=found, losses=ends)
    follows = fault.follows | (PLAIN if network == "plain-50" else frozenset())
    return Run(network=network, fault=name, seed=seed, found=found, right=fault.right, follows=follows, losses=ends)


def planted(seeds: Sequence[int], only: str) -> list[Run]:
    """Every fault, or those whose names hold ``only``, in every network where it can be planted."""
    return [
        run(change(NETWORKS[network]), network, name, seed, fault)
        for name, fault in FAULTS.items()
        if only in name
        for network, change in fault.changes.items()
        for seed in seeds
    ]


def healthy(seeds: Sequence[int]) -> list[Run]:
    return [run(setup, name, "healthy", seed) for name, setup in HEALTHY.items() for seed in seeds]


def scores(runs: Sequence[Run]) -> tuple[float, float]:
    """Precision and recall."""
    hits = sum(one.hit for one in runs)
    wrong = sum(len(one.wrong) for one in runs)
    return hits / max(1, hits + wrong), hits / max(1, sum(bool(one.right) for one in runs))


def table(runs: Sequence[Run]) -> list[str]:
    """Fault x network: in how many of the runs the right kind was found."""
    lines = ["| fault | " + " | ".join(NETWORKS) + " |", "|---" * (len(NETWORKS) + 1) + "|"]
    for name in FAULTS:
        cells = [[one for one in runs if (one.fault, one.network) == (name, network)] for network in NETWORKS]
        said = [f"{sum(one.hit for one in cell)} of {len(cell)}" if cell else "" for cell in cells]
        lines.append(f"| {name} | " + " | ".join(said) + " |")
    return lines


def report(runs: Sequence[Run], well: Sequence[Run], seeds: Sequence[int]) -> str:
    """The page."""
    everything = [*runs, *well]
    seen = [one for one in everything if one.fault not in UNSEEN]
    (precision, recall), (_, of_seen) = scores(everything), scores(seen)
    alarms = [one for one in well if one.found]
    beside = sum(len(one.found - one.right) for one in everything)
    hits = sum(one.hit for one in everything)
    lines = [
        "# Faults that a recording names",
        "",
        f"`python -m benchmarks.faults`: {STEPS} steps, every {EVERY}th measured, seeds {', '.join(map(str, seeds))}.",
        "In each cell: runs in which a finding was of the right kind. Empty: the fault cannot be planted there.",
        "",
        *table(runs),
        "",
        f"- precision {precision:.3f}, recall {recall:.3f} ({len(runs)} runs with a fault)",
        f"- recall without {', '.join(UNSEEN)}, which no number of a recording shows: {of_seen:.3f}",
        f"- findings of other kinds: {beside}, all of them such as may come of the fault but those listed below "
        f"as wrong; counted as wrong, each of them, precision would be {hits / max(1, hits + beside):.3f}",
        f"- healthy runs with a finding: {len(alarms)} of {len(well)} ({', '.join(HEALTHY)})",
        "- the plain network of 50 layers may be said to explode beside any fault: with batch norm and no shortcuts "
        "its gradient grows by 1,000 and more towards the input as it begins; so it is no healthy run either",
    ]
    lines += [f"- wrong: {_shown(one)}: {', '.join(sorted(one.wrong))}" for one in everything if one.wrong]
    lines += [f"- missed: {_shown(one)}" for one in seen if one.right and not one.hit]
    return "\n".join(lines) + "\n"


def _shown(one: Run) -> str:
    return f"{one.fault} in {one.network}, seed {one.seed}"


def main(
    seeds: str = "3,4,5", into: Path = Path("benchmarks/faults.md"), verbose: bool = False, only: str = ""
) -> None:
    """Train every planted fault and the healthy runs; print the table and write it as Markdown."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    runs: list[Run] = []
    well: list[Run] = []
    chosen, begun = [int(seed) for seed in seeds.split(",")], time.monotonic()
    for place, seed in enumerate(chosen):
        runs, well = runs + planted([seed], only), well + healthy([seed])
        into.write_text(report(runs, well, chosen[: place + 1]))
    if verbose:
        for one in [*runs, *well]:
            first, last = one.losses
            typer.echo(f"{_shown(one):40} {first:9.3g} -> {last:9.3g}  {sorted(one.found)}  wrong {sorted(one.wrong)}")
    typer.echo(into.read_text() + f"{time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    typer.run(main)
