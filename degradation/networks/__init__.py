"""The networks: a kind, a depth and a shortcut option -> a module with its Layout and weights from a seed."""

from typing import Any, Literal, TypeAlias, TypeVar, cast, get_args, overload

from degradation.errors import UseError
from degradation.networks.cifar import CifarNetwork
from degradation.networks.imagenet import ImageNetNetwork
from degradation.networks.weights import draw_weights
from degradation.spec import BlockSpec, Family, Initialization, Network, Norm, RunSpec, Shortcut, StrideOn

AnyNetwork: TypeAlias = CifarNetwork | ImageNetNetwork
N = TypeVar("N", CifarNetwork, ImageNetNetwork)


@overload
def network(
    kind: Network,
    depth: int,
    shortcut: Shortcut | None = None,
    *,
    family: Literal["cifar"] = "cifar",
    seed: int | None = 0,
    norm: Norm = "batch",
    width: int = 1,
    initialization: Initialization = "he",
    block: BlockSpec | None = None,
    classes: int = 10,
) -> CifarNetwork: ...


@overload
def network(
    kind: Network,
    depth: int,
    shortcut: Shortcut | None = None,
    *,
    family: Literal["imagenet"],
    seed: int | None = 0,
    stride_on: StrideOn = "3x3",
    classes: int = 1000,
) -> ImageNetNetwork: ...


def network(
    kind: Network,
    depth: int,
    shortcut: Shortcut | None = None,
    *,
    family: Family = "cifar",
    seed: int | None = 0,
    **fields: Any,
) -> AnyNetwork:
    """A network of He et al. 2015, its weights drawn from ``seed``; ``seed=None`` leaves them for a checkpoint.

    ``family`` cifar (section 4.2): depth 6n+2, ``shortcut`` A, B or C (default A) for a residual network and none for
    a plain one; the stages have 16, 32 and 64 filters times ``width``; ``norm`` is batch or none; ``block`` holds the
    variants of He et al. 2016. Input (N, 3, H, W), output (N, ``classes``).

    ``family`` imagenet (section 4.1): depths 18, 34, 50, 101 and 152, ``shortcut`` as above (default B, as in the
    common implementation); the stride of a bottleneck is on its 3x3 convolution or, as in the paper, on its first 1x1
    one (``stride_on``). Input (N, 3, H, W), output (N, ``classes``).

    Raises ValueError for a kind, shortcut, norm, width, initialization, family or place of the stride that does not
    exist, a depth that the family does not have, a shortcut that does not fit, or blocks that cannot be built so.
    """
    default: Shortcut = "A" if family == "cifar" else "B"
    option: Shortcut = shortcut or ("none" if kind == "plain" else default)
    _known("network", kind, get_args(Network))
    _known("shortcut", option, get_args(Shortcut))
    _known("family", family, get_args(Family))
    if family == "imagenet":
        _known("place of the stride", fields.get("stride_on", "3x3"), get_args(StrideOn))
        return _drawn(ImageNetNetwork(kind=kind, depth=depth, shortcut=option, **fields), seed)
    initialization = fields.get("initialization", "he")
    _known("norm", fields.get("norm", "batch"), get_args(Norm))
    _known("initialization", initialization, get_args(Initialization))
    if (width := fields.get("width", 1)) < 1:
        raise ValueError(f"the width is a whole number of at least 1, not {width}")
    made = _drawn(CifarNetwork(kind=kind, depth=depth, shortcut=option, **fields), seed, initialization)
    if seed is not None:
        made.begin(seed)
    return made


def _drawn(made: N, seed: int | None, initialization: Initialization = "he") -> N:
    if seed is not None:
        draw_weights(made, seed, initialization)
    return made


def _known(what: str, given: str, choices: tuple[str, ...]) -> None:
    if given not in choices:
        raise ValueError(f"the {what} is one of {', '.join(choices)}, not {given!r}")


def cifar_for_run(run: RunSpec, *, drawn: bool = True) -> CifarNetwork:
    """``for_run`` for what takes networks of the CIFAR family apart; UseError for a run of another family."""
    if run.family != "cifar":
        raise UseError(f"{run.run_id} is of the ImageNet family: expected a network of the CIFAR family")
    return cast(CifarNetwork, for_run(run, drawn=drawn))


def for_run(run: RunSpec, *, drawn: bool = True) -> AnyNetwork:
    """The network of a run, with its initial weights; not ``drawn``, with whatever weights, for a file to replace."""
    seed, classes = run.seed if drawn else None, run.dataset.classes
    kind, stride_on = (run.network, run.depth, run.shortcut), run.block.stride_on
    if run.family == "imagenet":
        return network(*kind, family="imagenet", seed=seed, stride_on=stride_on, classes=classes)
    return network(
        *kind,
        seed=seed,
        norm=run.norm,
        width=run.width,
        initialization=run.initialization,
        block=run.block,
        classes=classes,
    )
