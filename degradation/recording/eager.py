"""Recordings that listen -> torch's stance: while any does, compiled networks run uncompiled."""

from typing import Any

import torch

AROUND = (
    "not every step is measured: the loop is compiled around the network, and hooks "
    "would break its graph; compile the network alone"
)

_listening: list[Any] = []  # the one stance that all share, as often as somebody listens


def begin() -> None:
    """One more listens; raises RuntimeError within a compiled region, as torch does."""
    _listening.append(_listening[0] if _listening else torch.compiler.set_stance("force_eager"))


def end() -> None:
    """One fewer, in any order: each with a stance of its own would put back the one that another had set."""
    stance = _listening.pop()
    if not _listening:
        stance.__exit__(None, None, None)
