"""What is studied, as frozen data: a study (a grid of runs and what to measure) and each single run."""

from degradation.spec.block import BlockSpec, Norm, Order
from degradation.spec.datasets import Cifar10, Dataset, Synthetic
from degradation.spec.fields import Frozen, canonical, digest, flatten, leaves, nest, valid_depth
from degradation.spec.recipe import PAPER_STEPS, Optimizer, Recipe, StudyRecipe
from degradation.spec.run import (
    NETWORKS,
    PROBES,
    SCHEMA,
    Initialization,
    Measure,
    Network,
    Precision,
    Probe,
    RunSpec,
    Shortcut,
    upgrade,
)
from degradation.spec.study import GROWING, SYNTHETIC_LABEL, VARYING, StudySpec, nest_arms

__all__ = [
    "GROWING",
    "NETWORKS",
    "PAPER_STEPS",
    "PROBES",
    "SCHEMA",
    "SYNTHETIC_LABEL",
    "VARYING",
    "BlockSpec",
    "Cifar10",
    "Dataset",
    "Frozen",
    "Initialization",
    "Measure",
    "Network",
    "Norm",
    "Optimizer",
    "Order",
    "Precision",
    "Probe",
    "Recipe",
    "RunSpec",
    "Shortcut",
    "StudyRecipe",
    "StudySpec",
    "Synthetic",
    "canonical",
    "digest",
    "flatten",
    "leaves",
    "nest",
    "nest_arms",
    "upgrade",
    "valid_depth",
]
