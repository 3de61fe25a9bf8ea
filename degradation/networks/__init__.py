"""The networks: a kind, a depth and a shortcut option -> a module with its Layout and weights from a seed."""

from typing import get_args

from degradation.networks.cifar import CifarNetwork
from degradation.networks.weights import draw_weights
from degradation.spec import NETWORKS, Network, RunSpec, Shortcut


def network(kind: Network, depth: int, shortcut: Shortcut | None = None, *, seed: int | None = 0) -> CifarNetwork:
    """A network of the CIFAR family (He et al. 2015, section 4.2), its weights drawn from ``seed``.

    ``shortcut`` is A, B or C for a residual network (default A) and none for a plain one. With ``seed=None``
    the weights are left as torch makes them, for a checkpoint to replace. Input (N, 3, H, W), output (N, 10).

    Raises ValueError for an unknown kind or shortcut, a depth that is not 6n+2, or a shortcut that does not fit.
    """
    if kind not in NETWORKS:
        raise ValueError(f"a network is plain or residual, not {kind!r}")
    option: Shortcut = shortcut or ("none" if kind == "plain" else "A")
    if option not in get_args(Shortcut):
        raise ValueError(f"a shortcut is A, B or C, or none in a plain network, not {option!r}")
    made = CifarNetwork(kind=kind, depth=depth, shortcut=option)
    if seed is not None:
        draw_weights(made, seed)
    return made


def for_run(run: RunSpec) -> CifarNetwork:
    """The network of a run, with its initial weights."""
    return network(run.network, run.depth, run.shortcut, seed=run.seed)
