"""Experiments on trained networks: a finished run -> one long frame, each experiment in a file of its own."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from degradation.experiments.experiment import Experiment

REGISTRY: dict[str, str] = {
    "lesion": "degradation.experiments.lesion:LESION",
    "reorder": "degradation.experiments.reorder:REORDER",
    "identity": "degradation.experiments.identity:IDENTITY",
    "shatter": "degradation.experiments.shatter:SHATTER",
    "paths": "degradation.experiments.paths:PATHS",
    "landscape": "degradation.experiments.landscape:LANDSCAPE",
    "curvature": "degradation.experiments.curvature:CURVATURE",
    "construct": "degradation.experiments.construct:CONSTRUCT",
}
"""Name -> path of the Experiment, in the order of execution; imported at first use, since it needs torch."""


def experiment_named(name: str) -> "Experiment":
    """The named experiment. KeyError for a name that ``REGISTRY`` does not hold."""
    module, _, constant = REGISTRY[name].partition(":")
    found: Experiment = getattr(import_module(module), constant)
    return found


__all__ = ["REGISTRY", "experiment_named"]
