"""Recordings that measure -> torch's stance: while there is any, compiled networks run uncompiled."""

from typing import Any

import torch

AROUND = (
    "not every step is measured: the loop is compiled around the network, and hooks "
    "would break its graph; compile only the network"
)

_listening: list[Any] = []  # the one stance that all recordings share, and its number of users


def begin() -> None:
    """Count one more; raises RuntimeError inside a compiled region, as torch does."""
    _listening.append(_listening[0] if _listening else torch.compiler.set_stance("force_eager"))


def end() -> None:
    """Count one less, in any order: separate stances would restore each other's."""
    stance = _listening.pop()
    if not _listening:
        stance.__exit__(None, None, None)
