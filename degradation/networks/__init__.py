"""The networks: a kind, a depth and a shortcut option -> a module with its Layout and weights from a seed."""

from degradation.networks.cifar import CifarNetwork
from degradation.networks.weights import draw_weights
from degradation.spec import Network, RunSpec, Shortcut


def network(kind: Network, depth: int, shortcut: Shortcut | None = None, *, seed: int | None = 0) -> CifarNetwork:
    """A network of the CIFAR family (He et al. 2015, section 4.2), its weights drawn from ``seed``.

    ``shortcut`` is A, B or C for a residual network (default A) and none for a plain one. With ``seed=None``
    the weights are left as torch makes them, for a checkpoint to replace. Input (N, 3, H, W), output (N, 10).

    Raises ValueError for a depth that is not 6n+2, or a shortcut that does not fit the kind.
    """
    option: Shortcut = shortcut or ("none" if kind == "plain" else "A")
    made = CifarNetwork(kind=kind, depth=depth, shortcut=option)
    if seed is not None:
        draw_weights(made, seed)
    return made


def for_run(run: RunSpec) -> CifarNetwork:
    """The network of a run, with its initial weights."""
    return network(run.network, run.depth, run.shortcut, seed=run.seed)
