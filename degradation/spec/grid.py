"""A study -> its runs, each plain run next to its residual matches, and their costs in closed form."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from degradation.spec import (
    EXPANSION,
    IMAGENET_FILTERS,
    TABLE_1,
    BlockSpec,
    Network,
    Norm,
    RunSpec,
    Shortcut,
    StrideOn,
    StudySpec,
)
from degradation.spec.block import ORIGINAL

CLASSES = 10
STAGE_FILTERS = (16, 32, 64)  # of the three stages, section 4.2


def runs(study: StudySpec) -> tuple[RunSpec, ...]:
    """Every run of the study once, each plain run before its residual matches.

    By seed first, so that an unfinished study holds a whole grid early; then the deepest, which take longest;
    the arms of a study next to each other.
    """
    return tuple(arms(study))


def arms(study: StudySpec) -> dict[RunSpec, str]:
    """Every run of the study, in the order of ``runs``, with the name of its arm; ``""`` without arms."""
    each = study.each_arm
    return {
        _run(arm, network, depth, shortcut, seed): name
        for seed in study.seeds
        for depth in sorted(study.depths, reverse=True)
        for name, arm in each.items()
        for network, shortcut in _kinds(arm)
    }


def _kinds(study: StudySpec) -> list[tuple[Network, Shortcut]]:
    """The networks of an arm; no plain one if its blocks change the shortcut, since no run would match it."""
    has_plain = "plain" in study.networks and not study.block.of_shortcut
    plain: list[tuple[Network, Shortcut]] = [("plain", "none")] if has_plain else []
    return plain + [("residual", option) for option in study.shortcuts if "residual" in study.networks]


def _run(study: StudySpec, network: Network, depth: int, shortcut: Shortcut, seed: int) -> RunSpec:
    names = RunSpec.model_fields.keys() & StudySpec.model_fields.keys() - {"recipe"}
    return RunSpec(
        network=network,
        depth=depth,
        shortcut=shortcut,
        seed=seed,
        recipe=study.recipe_at(depth),
        **{name: getattr(study, name) for name in names},
    )


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A matched pair: two runs equal in every field but network and shortcut."""

    plain: RunSpec
    residual: RunSpec


def pairs(planned: Iterable[RunSpec]) -> tuple[Pair, ...]:
    """The matched pairs among the runs; a plain run is in one pair for each shortcut option."""
    planned = tuple(planned)
    plain = {run: run for run in planned if run.network == "plain"}
    twins = [(run, plain.get(run.model_copy(update={"network": "plain", "shortcut": "none"}))) for run in planned]
    return tuple(Pair(plain=twin, residual=run) for run, twin in twins if twin is not None and run.network != "plain")


def repeated(planned: Iterable[RunSpec]) -> tuple[RunSpec, ...]:
    """The plain runs that train an earlier network again, with another order of the blocks' operations.

    Orders differ in the operations on either side of the addition; without an addition they are one network, and end
    with the same weights and errors, bit for bit. Responses are read at the same modules as in the residual match.
    """
    first: dict[RunSpec, RunSpec] = {}
    plain = [run for run in planned if run.network == "plain"]
    originals = [run.block.model_copy(update={"order": "original"}) for run in plain]
    networks = [run.model_copy(update={"block": block}) for run, block in zip(plain, originals, strict=True)]
    return tuple(run for run, network in zip(plain, networks, strict=True) if first.setdefault(network, run) != run)


def filters(width: int) -> tuple[int, int, int]:
    """Filters of the three stages: the paper's 16, 32 and 64 times ``width``."""
    first, second, third = STAGE_FILTERS
    return first * width, second * width, third * width


def parameters(
    depth: int,
    shortcut: Shortcut,
    *,
    norm: Norm = "batch",
    width: int = 1,
    block: BlockSpec = ORIGINAL,
    classes: int = CLASSES,
) -> int:
    """Number of trainable parameters of a network of the CIFAR family: 269,722 at depth 20 with option A or none.

    A filter has a gamma and a beta with batch norm, a bias without a norm and in a gate. The order of a block's
    operations changes nothing; a learned scale is one number per block.
    """
    last = filters(width)[-1]
    convolutions = [*_convolutions(depth, shortcut, width), *_gates(depth, block, width)]
    weights = sum(
        each.numbers + (2 if norm == "batch" and not each.gate else 1) * each.filters for each in convolutions
    )
    scales = (depth - 2) // 2 if block.start in ("skipinit", "fixup") else 0
    return weights + scales + (last + 1) * classes


def multiply_adds(
    depth: int,
    shortcut: Shortcut,
    size: int = 32,
    *,
    width: int = 1,
    block: BlockSpec = ORIGINAL,
    classes: int = CLASSES,
) -> int:
    """Multiply-adds of convolutions and linear layer for the forward of one image of size x size."""
    halved = _halved(size)
    maps = [size**2, halved**2, _halved(halved) ** 2]
    convolutions = [*_convolutions(depth, shortcut, width), *_gates(depth, block, width)]
    return sum(each.numbers * maps[each.stage] for each in convolutions) + filters(width)[-1] * classes


def parameters_of(run: RunSpec) -> int:
    """Number of trainable parameters of a run's network."""
    classes = run.dataset.classes
    if run.family == "imagenet":
        return imagenet_parameters(run.depth, run.shortcut, classes)
    return parameters(run.depth, run.shortcut, norm=run.norm, width=run.width, block=run.block, classes=classes)


def multiply_adds_of(run: RunSpec) -> int:
    """Multiply-adds of a run's network for the forward of one of its images."""
    size, classes = run.dataset.size, run.dataset.classes
    if run.family == "imagenet":
        return imagenet_multiply_adds(run.depth, run.shortcut, size, stride_on=run.block.stride_on, classes=classes)
    return multiply_adds(run.depth, run.shortcut, size, width=run.width, block=run.block, classes=classes)


def work_of(run: RunSpec) -> int:
    """Weight of a run for comparing run times: multiply-adds of the forward of one image, times its steps."""
    return multiply_adds_of(run) * run.recipe.steps


class _Convolution(NamedTuple):
    """Numbers in a convolution's weight, its filters, the stage (0, 1, 2) of its output; whether it is a gate's."""

    numbers: int
    filters: int
    stage: int
    gate: bool = False


def _convolutions(depth: int, shortcut: Shortcut, width: int) -> Iterator[_Convolution]:
    """Every convolution: the first, 2n in each stage, and the 1x1 ones of option B (where shapes change) and C."""
    n, first = (depth - 2) // 6, filters(width)[0]
    yield _Convolution(27 * first, first, 0)
    for stage, (inputs, own) in enumerate(pairwise((first, *filters(width)))):
        yield _Convolution(9 * inputs * own, own, stage)
        yield from [_Convolution(9 * own * own, own, stage)] * (2 * n - 1)
        if shortcut == "C" or (shortcut == "B" and inputs != own):
            yield _Convolution(inputs * own, own, stage)
        if shortcut == "C":
            yield from [_Convolution(own * own, own, stage)] * (n - 1)


def _gates(depth: int, block: BlockSpec, width: int) -> Iterator[_Convolution]:
    """The 1x1 convolution of each block's gate, from the block's input to the shape of its output."""
    if block.gate == "none":
        return
    for stage, (inputs, own) in enumerate(pairwise((filters(width)[0], *filters(width)))):
        yield _Convolution(inputs * own, own, stage, gate=True)
        yield from [_Convolution(own * own, own, stage, gate=True)] * ((depth - 2) // 6 - 1)


# The ImageNet family


def imagenet_parameters(depth: int, shortcut: Shortcut, classes: int = 1000) -> int:
    """Number of trainable parameters of a network of Table 1: 11,689,512 at depth 18, option B and 1,000 classes."""
    convolutions = _imagenet_convolutions(depth, shortcut, 224, "3x3")
    return sum(each.numbers + 2 * each.filters for each in convolutions) + (_features(depth) + 1) * classes


def imagenet_multiply_adds(
    depth: int, shortcut: Shortcut, size: int = 224, *, stride_on: StrideOn = "3x3", classes: int = 1000
) -> int:
    """Multiply-adds of convolutions and linear layer for the forward of one image of size x size."""
    convolutions = _imagenet_convolutions(depth, shortcut, size, stride_on)
    return sum(each.numbers * each.side**2 for each in convolutions) + _features(depth) * classes


class _Placed(NamedTuple):
    """Numbers in a convolution's weight, its filters, the side of its output maps."""

    numbers: int
    filters: int
    side: int


def _imagenet_convolutions(depth: int, shortcut: Shortcut, size: int, stride_on: StrideOn) -> Iterator[_Placed]:
    """Every convolution of Table 1: the first, after which a pool halves the maps, and those of each block."""
    table, inputs, side = TABLE_1[depth], IMAGENET_FILTERS[0], _halved(_halved(size))
    yield _Placed(3 * 49 * inputs, inputs, _halved(size))
    for stage, (own, count) in enumerate(zip(IMAGENET_FILTERS, table.blocks, strict=True)):
        for index in range(count):
            halves = bool(stage) and not index
            before, side = side, _halved(side) if halves else side
            last = EXPANSION * own if table.bottleneck else own
            if table.bottleneck:
                yield _Placed(inputs * own, own, before if stride_on == "3x3" else side)
                yield _Placed(9 * own * own, own, side)
                yield _Placed(own * last, last, side)
            else:
                yield from (_Placed(9 * inputs * own, own, side), _Placed(9 * own * own, own, side))
            if shortcut == "C" or (shortcut == "B" and (halves or inputs != last)):
                yield _Placed(inputs * last, last, side)
            inputs = last


def _features(depth: int) -> int:
    """Channels of the linear layer's input."""
    return IMAGENET_FILTERS[-1] * (EXPANSION if TABLE_1[depth].bottleneck else 1)


def _halved(side: int) -> int:
    """The side of maps after a stride of 2, rounded up."""
    return (side + 1) // 2
