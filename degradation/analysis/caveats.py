"""Results and estimates -> caveats that a reader must know, found by checking every run."""

from collections.abc import Iterator, Sequence

import pandas as pd

from degradation.analysis import formatting
from degradation.analysis.errors import CLAIMED
from degradation.analysis.estimates import Caveat, Estimate
from degradation.analysis.runs import Run, Runs
from degradation.spec import PROBE_NAMES
from degradation.study.pairs import sentence
from degradation.study.results import Results
from degradation.study.status import ENDED, run_statuses

DISAGREE = 5.0
"""Percentage points between training errors with running and with batch statistics, above which they disagree."""
CIRCUMSTANCES = ("version", "commit", "torch", "device", "device_name", "precision", "threads", "deterministic")


def caveats(results: Results, runs: Runs, estimates: Sequence[Estimate]) -> tuple[Caveat, ...]:
    """Every caveat that applies, the most serious ones of the study's design first."""
    found = [
        *_design(results, runs),
        *_completeness(results, runs),
        *_measuring(results, runs, estimates),
        *_machines(results),
    ]
    return tuple(found)


def _design(results: Results, runs: Runs) -> Iterator[Caveat]:
    study = results.study
    yield from _convergence(runs)
    for label in study.labels:
        if not label.endswith("not the paper's schedule"):
            kind = "images" if label == study.data_label else "other-recipe"
            opening = label if label.startswith(tuple(study.arms)) else label[0].upper() + label[1:]
            yield Caveat(kind=kind, text=f"{opening}.")
    if len({run.seed for run in runs.every}) == 1:
        yield Caveat(kind="one-seed", text="One seed: no number here has an interval, and no claim can be judged.")
    if len(networks := {run.network for run in runs.every}) == 1:
        there = networks.pop()
        absent = "residual" if there == "plain" else "plain"
        yield Caveat(
            kind="one-network", text=f"Only {there} networks: there are no {absent} ones to compare them with."
        )
    if len({run.depth for run in runs.every}) == 1:
        yield Caveat(kind="one-depth", text="One depth: nothing here shows what more layers do.")


def _convergence(runs: Runs) -> Iterator[Caveat]:
    """How many networks have not converged, and why for one of them."""
    lacking = {group: [run for run in members if run.lacks] for group, members in runs.groups.items()}
    found = [(group, members[0]) for group, members in lacking.items() if members]
    if not found:
        return
    if len(found) == len(runs.groups):
        steps = formatting.thousands(sorted({run.steps for run in runs.every}))
        text = f"After {steps} steps no network has converged in every seed: nothing here is about converged networks."
    else:
        group, run = found[0]
        text = (
            f"{len(found)} of {len(runs.groups)} networks have not converged in every seed, "
            f"for example {formatting.with_arm(group.label, group.arm)}: in seed {run.seed} {run.lacks}."
        )
    yield Caveat(kind="not-converged", text=text)


def _completeness(results: Results, runs: Runs) -> Iterator[Caveat]:
    planned = run_statuses(results.folder, results.study)
    missing = [each for each in planned if each.state not in ENDED]
    if not runs.every:
        yield Caveat(kind="no-run", text="No run is done: nothing is measured yet.")
    if missing:
        which = _listed([f"{each.run_id} ({each.state})" for each in missing])
        yield Caveat(kind="unfinished", text=f"{len(missing)} of {len(planned)} planned runs are not done: {which}.")
    lost = [run for run in runs.every if not run.finished]
    if lost:
        which = _listed([run.run_id for run in lost])
        text = f"{len(lost)} of {len(runs.every)} done runs diverged and are excluded from all final numbers: {which}."
        yield Caveat(kind="diverged", text=text)
    broken = tuple(match for match in runs.matched if not match.holds)
    if broken:
        yield Caveat(kind="not-matched", text=f"{sentence(broken)}; they are excluded from plain minus residual.")
    for probe in PROBE_NAMES:
        if runs.every and probe not in results.study.measure.probes:
            yield Caveat(kind="no-probe", text=f"The probe '{probe}' was not recorded.")


def _listed(names: Sequence[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _measuring(results: Results, runs: Runs, estimates: Sequence[Estimate]) -> Iterator[Caveat]:
    yield from _disagreement(estimates)
    curves = results["curves"]
    ends = {run.run_id: run for run in runs.every if run.finished}
    last = curves[curves["step"] == curves["run_id"].map({run_id: run.steps for run_id, run in ends.items()})]
    for split in ("train", "test"):
        used = last[last["split"] == split]
        short = sorted({int(count) for count in used["examples"]} - {_whole(results, split)})
        if short:
            counts = " or ".join(f"{count:,}" for count in short)
            text = f"The last {split} error is of {counts} of {_whole(results, split):,} images."
            yield Caveat(kind="subset", text=text)
    if results.study.measure.eval_examples:
        text = f"Clean errors before the last step are of the first {results.study.measure.eval_examples:,} images."
        yield Caveat(kind="subset-on-the-way", text=text)
    unmeasured = _without(last, ends)
    if unmeasured:
        names = _listed([run.run_id for run in unmeasured])
        yield Caveat(kind="no-clean-error", text=f"No clean training error at the last step: {names}.")


def _without(last: pd.DataFrame, ends: dict[str, Run]) -> list[Run]:
    split, statistics = CLAIMED
    have = set(last[(last["split"] == split) & (last["statistics"] == statistics)]["run_id"])
    return [run for run_id, run in ends.items() if run_id not in have]


def _whole(results: Results, split: str) -> int:
    dataset = results.study.dataset
    return dataset.train_examples if split == "train" else dataset.test_examples


def _disagreement(estimates: Sequence[Estimate]) -> Iterator[Caveat]:
    training = [each for each in estimates if each.name == "final-error" and each.context["split"] == "train"]
    running = {each.label: each.value for each in training if each.context["statistics"] == "running"}
    disagreeing = [
        f"{each.label} ({running[each.label]:.1f} % against {each.value:.1f} %)"
        for each in training
        if each.context["statistics"] == "batch" and _far(each.value, running.get(each.label))
    ]
    if disagreeing:
        text = (
            f"Training errors with running and with batch statistics differ by more than {DISAGREE:g} points: "
            f"{_listed(disagreeing)}. The claims use batch statistics; test errors use running statistics."
        )
        yield Caveat(kind="statistics-disagree", text=text)


def _far(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and abs(one - other) > DISAGREE


def _machines(results: Results) -> Iterator[Caveat]:
    provenance = results.provenance if results.run_ids else {}
    mixed = [
        f"{name} {', '.join(provenance[name])}" for name in CIRCUMSTANCES if isinstance(provenance.get(name), list)
    ]
    if mixed:
        text = f"Runs were made in different environments: {'; '.join(mixed)}. Results may differ by rounding."
        yield Caveat(kind="mixed-circumstances", text=text)
    if provenance.get("precision") not in (None, "fp32") and not isinstance(provenance["precision"], list):
        yield Caveat(
            kind="precision",
            text=f"Trained in {provenance['precision']} precision, without an fp32 run to compare with.",
        )
