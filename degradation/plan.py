"""A study -> its runs, each plain run beside its residual matches, and what they cost in closed form."""

from collections.abc import Iterable
from dataclasses import dataclass

from degradation.spec import Network, RunSpec, Shortcut, StudySpec

CLASSES = 10
WIDTHS = (16, 32, 64)  # filters of the three stages, section 4.2


def runs(study: StudySpec) -> tuple[RunSpec, ...]:
    """Every run of the study once, each plain run before its residual matches.

    By seed first, so that an unfinished study holds a whole grid early; then the deepest, which take longest.
    """
    return tuple(
        _run(study, network, depth, shortcut, seed)
        for seed in study.seeds
        for depth in sorted(study.depths, reverse=True)
        for network, shortcut in _kinds(study)
    )


def _kinds(study: StudySpec) -> list[tuple[Network, Shortcut]]:
    plain: list[tuple[Network, Shortcut]] = [("plain", "none")] if "plain" in study.networks else []
    return plain + [("residual", option) for option in study.shortcuts if "residual" in study.networks]


def _run(study: StudySpec, network: Network, depth: int, shortcut: Shortcut, seed: int) -> RunSpec:
    return RunSpec(
        dataset=study.dataset,
        network=network,
        depth=depth,
        shortcut=shortcut,
        seed=seed,
        recipe=study.recipe.for_depth(depth),
        precision=study.precision,
        measure=study.measure,
    )


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A matched pair: two runs equal in every field but network and shortcut."""

    plain: RunSpec
    residual: RunSpec


def pairs(planned: Iterable[RunSpec]) -> tuple[Pair, ...]:
    """The matched pairs among the runs; a plain run stands in one pair for each shortcut option."""
    planned = tuple(planned)
    plain = {_twin_key(run): run for run in planned if run.network == "plain"}
    return tuple(
        Pair(plain=plain[_twin_key(run)], residual=run)
        for run in planned
        if run.network == "residual" and _twin_key(run) in plain
    )


def _twin_key(run: RunSpec) -> RunSpec:
    return run.model_copy(update={"network": "plain", "shortcut": "none"})


def parameters(depth: int, shortcut: Shortcut) -> int:
    """Trainable numbers of a network of the CIFAR family: 269,722 at depth 20 with option A or none."""
    n = (depth - 2) // 6
    first = 27 * WIDTHS[0] + 2 * WIDTHS[0]
    inputs = (WIDTHS[0], *WIDTHS[:-1])
    stages = sum(
        9 * before * width + (2 * n - 1) * 9 * width * width + 2 * n * 2 * width
        for before, width in zip(inputs, WIDTHS, strict=True)
    )
    linear = WIDTHS[-1] * CLASSES + CLASSES
    return first + stages + linear + sum(before * width + 2 * width for before, width, _ in _projections(n, shortcut))


def multiply_adds(depth: int, shortcut: Shortcut, size: int = 32) -> int:
    """Multiply-adds of convolutions and linear layer for one image of size x size, forward."""
    n = (depth - 2) // 6
    maps = [(size >> stage) ** 2 for stage in range(3)]
    first = 27 * WIDTHS[0] * maps[0]
    inputs = (WIDTHS[0], *WIDTHS[:-1])
    stages = sum(
        (9 * before * width + (2 * n - 1) * 9 * width * width) * area
        for before, width, area in zip(inputs, WIDTHS, maps, strict=True)
    )
    projections = sum(before * width * maps[stage] for before, width, stage in _projections(n, shortcut))
    return first + stages + WIDTHS[-1] * CLASSES + projections


def _projections(n: int, shortcut: Shortcut) -> list[tuple[int, int, int]]:
    """The 1x1 convolutions of option B (where shapes change) and C (everywhere): inputs, filters, stage."""
    changing = [(WIDTHS[stage - 1], WIDTHS[stage], stage) for stage in (1, 2)]
    if shortcut == "B":
        return changing
    if shortcut == "C":
        same = [n, n - 1, n - 1]
        return changing + [(WIDTHS[stage], WIDTHS[stage], stage) for stage in range(3) for _ in range(same[stage])]
    return []
