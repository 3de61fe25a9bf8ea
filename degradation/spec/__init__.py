"""What is studied, as frozen data: a study (a grid of runs and what to measure) and each single run."""

import os

# Errors of StudySpec(...) are read by people: the address of a page about pydantic helps none of them.
os.environ.setdefault("PYDANTIC_ERRORS_INCLUDE_URL", "false")

from degradation.spec.block import BlockSpec, Norm, Order, StrideOn
from degradation.spec.datasets import DATASETS, LISTED, Cifar10, Dataset, Digits, Folder, Synthetic, default_padding
from degradation.spec.family import EXPANSION, IMAGENET_FILTERS, TABLE_1, Family, Table1, depth_of, has_plain
from degradation.spec.fields import Frozen, canonical, digest, flatten, leaves, nest, valid_depth
from degradation.spec.recipe import PAPER_STEPS, PAPERS_RECIPES, Optimizer, Recipe, StudyRecipe
from degradation.spec.run import (
    NETWORKS,
    PROBE_NAMES,
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
from degradation.spec.study import GROWING, SYNTHETIC_LABEL, VARYING, StudySpec, nest_arms, upgrade_study

__all__ = [
    "DATASETS",
    "EXPANSION",
    "GROWING",
    "IMAGENET_FILTERS",
    "LISTED",
    "NETWORKS",
    "PAPERS_RECIPES",
    "PAPER_STEPS",
    "PROBE_NAMES",
    "SCHEMA",
    "SYNTHETIC_LABEL",
    "TABLE_1",
    "VARYING",
    "BlockSpec",
    "Cifar10",
    "Dataset",
    "Digits",
    "Family",
    "Folder",
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
    "StrideOn",
    "StudyRecipe",
    "StudySpec",
    "Synthetic",
    "Table1",
    "canonical",
    "default_padding",
    "depth_of",
    "digest",
    "flatten",
    "has_plain",
    "leaves",
    "nest",
    "nest_arms",
    "upgrade",
    "upgrade_study",
    "valid_depth",
]
