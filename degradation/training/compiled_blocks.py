"""The blocks of a network -> one compiled function that all of them share, during a forward."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch

from degradation.networks import AnyNetwork

VARIETIES = 64  # combinations of shape, stride, precision and variant in a process; each is compiled once at any depth


@cache
def _compiled_forward(own: Callable[..., Any]) -> Callable[..., Any]:
    torch._dynamo.config.recompile_limit = max(VARIETIES, torch._dynamo.config.recompile_limit)
    return torch.compile(own, dynamic=False)


@contextmanager
def compiled(network: AnyNetwork) -> Iterator[None]:
    """Compile every block's forward: its pointwise operations are fused. Results differ from eager ones by rounding.

    Blocks of one shape share one compilation, so a deep network takes no longer to compile than a shallow one.
    """
    for block in network.blocks:
        block.forward = partial(_compiled_forward(type(block).forward), block)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for block in network.blocks:
            del block.forward
