"""Experiments on trained networks: a finished run -> one long frame; one file for each experiment."""

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
    "signal": "degradation.experiments.signal_propagation:SIGNAL",
    "construct": "degradation.experiments.construct:CONSTRUCT",
}
"""Name -> path of the Experiment, in the order of execution; imported when it is used, since it needs torch."""


def experiment_named(name: str) -> "Experiment":
    """The named experiment. Raises KeyError for a name that is not in ``REGISTRY``."""
    module, _, constant = REGISTRY[name].partition(":")
    experiment: Experiment = getattr(import_module(module), constant)
    return experiment


__all__ = ["REGISTRY", "experiment_named"]
