"""Experiments on trained networks: a finished run -> one long frame, each experiment in a file of its own."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from degradation.experiments.experiment import Mechanism

MECHANISMS: dict[str, str] = {
    "lesion": "degradation.experiments.lesion:LESION",
    "reorder": "degradation.experiments.reorder:REORDER",
    "identity": "degradation.experiments.identity:IDENTITY",
    "shatter": "degradation.experiments.shatter:SHATTER",
    "paths": "degradation.experiments.paths:PATHS",
    "landscape": "degradation.experiments.landscape:LANDSCAPE",
    "curvature": "degradation.experiments.curvature:CURVATURE",
    "construct": "degradation.experiments.construct:CONSTRUCT",
}
"""Name -> where the Mechanism is, in the order of carrying them out; imported when asked for, since it needs torch."""


def named(name: str) -> "Mechanism":
    """The named mechanism. KeyError for a name that ``MECHANISMS`` does not hold."""
    module, _, constant = MECHANISMS[name].partition(":")
    found: Mechanism = getattr(import_module(module), constant)
    return found


__all__ = ["MECHANISMS", "named"]
