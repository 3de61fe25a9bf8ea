"""The networks: a kind, a depth and a shortcut option -> a module with its Layout and weights from a seed."""

from typing import get_args

from degradation.networks.cifar import CifarNetwork
from degradation.networks.weights import draw_weights
from degradation.spec import BlockSpec, Initialization, Network, Norm, RunSpec, Shortcut


def network(
    kind: Network,
    depth: int,
    shortcut: Shortcut | None = None,
    *,
    seed: int | None = 0,
    norm: Norm = "batch",
    width: int = 1,
    initialization: Initialization = "he",
    block: BlockSpec | None = None,
) -> CifarNetwork:
    """A network of the CIFAR family (He et al. 2015, section 4.2), its weights drawn from ``seed``.

    ``shortcut`` is A, B or C for a residual network (default A) and none for a plain one. The stages have 16, 32
    and 64 filters times ``width``; ``block`` holds the variants of He et al. 2016. With ``seed=None`` the weights are
    left as torch makes them, for a checkpoint to replace. Input (N, 3, H, W), output (N, 10).

    Raises ValueError for a kind, shortcut, norm, width or initialization that does not exist, a depth that is not
    6n+2, a shortcut that does not fit, or blocks that cannot be built so.
    """
    option: Shortcut = shortcut or ("none" if kind == "plain" else "A")
    _known("network", kind, get_args(Network))
    _known("shortcut", option, get_args(Shortcut))
    _known("norm", norm, get_args(Norm))
    _known("initialization", initialization, get_args(Initialization))
    if width < 1:
        raise ValueError(f"the width is a whole number of at least 1, not {width}")
    made = CifarNetwork(
        kind=kind, depth=depth, shortcut=option, norm=norm, width=width, initialization=initialization, block=block
    )
    if seed is not None:
        draw_weights(made, seed, initialization)
        made.begin(seed)
    return made


def _known(what: str, given: str, choices: tuple[str, ...]) -> None:
    if given not in choices:
        raise ValueError(f"the {what} is one of {', '.join(choices)}, not {given!r}")


def for_run(run: RunSpec) -> CifarNetwork:
    """The network of a run, with its initial weights."""
    return network(
        run.network,
        run.depth,
        run.shortcut,
        seed=run.seed,
        norm=run.norm,
        width=run.width,
        initialization=run.initialization,
        block=run.block,
    )
