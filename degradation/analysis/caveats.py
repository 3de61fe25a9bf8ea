"""Results and estimates -> caveats that a reader must know, found by checking every run."""

from collections.abc import Iterator, Sequence

from degradation.analysis import formatting
from degradation.analysis.errors import CLAIMED
from degradation.analysis.estimates import Caveat, Estimate
from degradation.analysis.runs import Runs
from degradation.spec import PROBE_NAMES
from degradation.study.pairs import sentence
from degradation.study.results import Results
from degradation.study.status import ENDED, run_statuses

DISAGREE = 5.0
"""Percentage points between training errors with running and with batch statistics, above which they disagree."""
CIRCUMSTANCES = ("version", "commit", "torch", "device", "device_name", "precision", "threads", "deterministic")


def caveats(results: Results, runs: Runs, estimates: Sequence[Estimate]) -> tuple[Caveat, ...]:
    """Every caveat that applies, the most serious ones of the study's design first."""
    return (
        *_design(results, runs),
        *_completeness(results, runs),
        *_measuring(results, runs, estimates),
        *_machines(results),
    )


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
        network = networks.pop()
        other = "residual" if network == "plain" else "plain"
        text = f"Only {network} networks: there are no {other} ones to compare them with."
        yield Caveat(kind="one-network", text=text)
    if len({run.depth for run in runs.every}) == 1:
        yield Caveat(kind="one-depth", text="One depth: nothing here shows what more layers do.")


def _convergence(runs: Runs) -> Iterator[Caveat]:
    """The number of networks that have not converged, and the reason for one of them."""
    not_converged = [(group, run) for group, members in runs.groups.items() for run in members if run.lacks]
    if not not_converged:
        return
    count = len({group for group, _ in not_converged})
    if count == len(runs.groups):
        steps = formatting.thousands(sorted({run.steps for run in runs.every}))
        text = f"After {steps} steps no network has converged in every seed: nothing here is about converged networks."
    else:
        group, run = not_converged[0]
        text = (
            f"{count} of {len(runs.groups)} networks have not converged in every seed, "
            f"for example {formatting.with_arm(group.label, group.arm)}: in seed {run.seed} {run.lacks}."
        )
    yield Caveat(kind="not-converged", text=text)


def _completeness(results: Results, runs: Runs) -> Iterator[Caveat]:
    planned = run_statuses(results.folder, results.study)
    missing = [each for each in planned if each.state not in ENDED]
    if not runs.every:
        yield Caveat(kind="no-run", text="No run is done: nothing is measured yet.")
    if missing:
        names = _listed([f"{each.run_id} ({each.state})" for each in missing])
        yield Caveat(kind="unfinished", text=f"{len(missing)} of {len(planned)} planned runs are not done: {names}.")
    diverged = [run.run_id for run in runs.every if not run.finished]
    if diverged:
        text = f"{len(diverged)} of {len(runs.every)} done runs diverged and are excluded from all final numbers"
        yield Caveat(kind="diverged", text=f"{text}: {_listed(diverged)}.")
    not_equal = tuple(match for match in runs.matched if not match.holds)
    if not_equal:
        yield Caveat(kind="not-matched", text=f"{sentence(not_equal)}; they are excluded from plain minus residual.")
    for probe in PROBE_NAMES:
        if runs.every and probe not in results.study.measure.probes:
            yield Caveat(kind="no-probe", text=f"The probe '{probe}' was not recorded.")


def _listed(names: Sequence[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _measuring(results: Results, runs: Runs, estimates: Sequence[Estimate]) -> Iterator[Caveat]:
    yield from _disagreement(estimates)
    study = results.study
    last = runs.at_last_step(results["curves"])
    for split, whole in (("train", study.dataset.train_examples), ("test", study.dataset.test_examples)):
        counts = sorted({int(count) for count in last.loc[last["split"] == split, "examples"]} - {whole})
        if counts:
            used = " or ".join(f"{count:,}" for count in counts)
            yield Caveat(kind="subset", text=f"The last {split} error is of {used} of {whole:,} images.")
    if study.measure.eval_examples:
        text = f"Clean errors before the last step are of the first {study.measure.eval_examples:,} images."
        yield Caveat(kind="subset-on-the-way", text=text)
    clean = set(last.loc[(last["split"] == CLAIMED[0]) & (last["statistics"] == CLAIMED[1]), "run_id"])
    unmeasured = [run_id for run_id in runs.last_steps if run_id not in clean]
    if unmeasured:
        yield Caveat(kind="no-clean-error", text=f"No clean training error at the last step: {_listed(unmeasured)}.")


def _disagreement(estimates: Sequence[Estimate]) -> Iterator[Caveat]:
    errors: dict[str, dict[str, float]] = {"running": {}, "batch": {}}
    for each in estimates:
        if each.name == "final-error" and each.context["split"] == "train" and each.value is not None:
            errors[each.context["statistics"]][each.label] = each.value
    running = errors["running"]
    disagreeing = [
        f"{label} ({running[label]:.1f} % against {error:.1f} %)"
        for label, error in errors["batch"].items()
        if label in running and abs(error - running[label]) > DISAGREE
    ]
    if disagreeing:
        text = (
            f"Training errors with running and with batch statistics differ by more than {DISAGREE:g} points: "
            f"{_listed(disagreeing)}. The claims use batch statistics; test errors use running statistics."
        )
        yield Caveat(kind="statistics-disagree", text=text)


def _machines(results: Results) -> Iterator[Caveat]:
    provenance = results.provenance if results.run_ids else {}
    mixed = [name for name in CIRCUMSTANCES if isinstance(provenance.get(name), list)]
    if mixed:
        values = "; ".join(f"{name} {', '.join(provenance[name])}" for name in mixed)
        text = f"Runs were made in different environments: {values}. Results may differ by rounding."
        yield Caveat(kind="mixed-circumstances", text=text)
    precision = provenance.get("precision")
    if precision not in (None, "fp32") and "precision" not in mixed:
        text = f"Trained in {precision} precision, without an fp32 run to compare with."
        yield Caveat(kind="precision", text=text)
