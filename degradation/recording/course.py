"""The measured steps of a recording, one after the other -> problems of the updates, and weights without a gradient.

The thresholds are for the norm of an update over the norm of its weight:

- ``SLOW`` 1e-6: if no weight ever moved farther, the network is not trained: a million such steps in one direction
  move a weight by its own norm, and float32 rounds most of each away. With a warm-up or a decay to zero
  other steps move the weights farther.
- ``FAST`` 0.5: if most weights moved farther in one step, their previous values are lost. The first step of Adam, whose
  updates are the learning rate everywhere, stays below it up to rates of 0.03 in layers of 100 inputs. A weight that
  starts at zero moves by more than its norm in any training, and is excluded.
- ``ENOUGH`` 3: measured steps with updates that are needed for a finding on weights that move little or not at all.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from degradation.recording import findings
from degradation.recording.diagnosis import Profile
from degradation.recording.findings import Finding, finding
from degradation.recording.notes import several
from degradation.recording.uses import Numbers

SLOW_SHARE, FAST_SHARE, ENOUGH = 1e-6, 0.5, 3


@dataclass(frozen=True)
class LoopInfo:
    """Facts of a loop other than the numbers of its measured steps."""

    cut: Sequence[str] = ()
    """Trained layers that were used, but whose weight never got a gradient."""
    unused: Sequence[str] = ()
    unmoved: int = 0
    """Measured steps before another backward, if no weight changed at any step."""
    piled: int = 0
    """Consecutive measured steps, up to the last, whose gradients were added to already used ones."""


def judge_course(profiles: Mapping[int, Profile], course: LoopInfo) -> Iterator[Finding]:
    """Findings on the loop as a whole."""
    if course.piled >= ENOUGH:
        yield finding(
            findings.PILING,
            f"gradients pile up: at {course.piled:,} measured steps in a row .grad still held those of the update "
            "before",
        )
    if course.unmoved >= ENOUGH and any((profile.relative > 0).any() for profile in profiles.values()):
        yield finding(findings.STILL, f"not moving: in {course.unmoved:,} measured steps no update changed any weight")
    if course.cut:
        yield finding(
            findings.CUT, f"no gradient ever reaches the weight of {several(course.cut)}, though the forward uses it"
        )
    if profiles:
        yield from _updates(profiles, {*course.unused, *course.cut})


def _updates(profiles: Mapping[int, Profile], reported: set[str]) -> Iterator[Finding]:
    """Findings on updates; the layers ``reported`` already have a finding."""
    moved, gradients, weights = (
        np.array([getattr(profile, name) for profile in profiles.values()]) for name in ("moved", "relative", "weight")
    )
    # A weight that started at zero has no norm to compare with; a frozen one is unrelated to the learning rate.
    yield from _fast(list(profiles), np.where((gradients > 0) & (weights[0] > 0), moved, np.nan))
    measured = np.isfinite(moved)
    counted = int(measured.any(1).sum())
    if counted < ENOUGH:
        return
    far, pulled = (np.where(np.isfinite(part) & measured, part, 0).max(0) for part in (moved, gradients))
    if far.max() < SLOW_SHARE:
        if pulled.max() > SLOW_SHARE:  # else a larger rate could not help
            most = f"by at most {far.max():.1e} of its norm" if far.max() else "not at all"
            yield finding(
                findings.SLOW, f"every update is tiny: in {counted:,} measured steps each weight moved {most}"
            )
        return
    # Updates like those of the other weights would have moved these: a tiny gradient is not a standstill.
    rate = np.median(far[far > 0] / np.maximum(pulled[far > 0], np.finfo(float).tiny))
    frozen = ~np.isfinite(gradients).any(0)  # a weight that requires a gradient and gets none is a separate finding
    still = (measured.sum(0) >= ENOUGH) & (far == 0) & ((pulled * rate > SLOW_SHARE) | frozen)
    names = next(iter(profiles.values())).names
    for mask, why in ((still & ~frozen, ""), (still & frozen, " (frozen: requires_grad is False)")):
        if layers := [name for name, is_still in zip(names, mask, strict=True) if is_still and name not in reported]:
            yield finding(
                findings.STILL,
                f"not moving: {several(layers)}{why}: in {counted:,} measured steps no update changed the weight",
            )


def _fast(steps: Sequence[int], moved: Numbers) -> Iterator[Finding]:
    """A finding on the first step at which most weights moved by more than ``FAST_SHARE``, a possible cause."""
    shares = [_median(row) for row in moved]
    first = next((place for place, share in enumerate(shares) if share > FAST_SHARE), None)
    if first is not None:
        yield finding(
            findings.FAST,
            f"every update is huge: at step {steps[first]:,} half of the weights moved by at least "
            f"{shares[first]:.1e} times their norm",
        )


def _median(row: Numbers) -> float:
    finite = row[np.isfinite(row)]
    return float(np.median(finite)) if len(finite) else 0.0
