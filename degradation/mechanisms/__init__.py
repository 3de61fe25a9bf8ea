"""Experiments on trained networks: a finished run -> one long frame, each experiment in a file of its own."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from degradation.mechanisms.mechanism import Mechanism

MECHANISMS: dict[str, str] = {
    "lesion": "degradation.mechanisms.lesion:LESION",
    "reorder": "degradation.mechanisms.reorder:REORDER",
    "identity": "degradation.mechanisms.identity:IDENTITY",
    "shatter": "degradation.mechanisms.shatter:SHATTER",
    "paths": "degradation.mechanisms.paths:PATHS",
    "landscape": "degradation.mechanisms.landscape:LANDSCAPE",
    "curvature": "degradation.mechanisms.curvature:CURVATURE",
    "construct": "degradation.mechanisms.construct:CONSTRUCT",
}
"""Name -> where the Mechanism is, in the order of carrying them out; imported when asked for, since it needs torch."""


def named(name: str) -> "Mechanism":
    """The named mechanism. KeyError for a name that ``MECHANISMS`` does not hold."""
    module, _, constant = MECHANISMS[name].partition(":")
    found: Mechanism = getattr(import_module(module), constant)
    return found


__all__ = ["MECHANISMS", "named"]
