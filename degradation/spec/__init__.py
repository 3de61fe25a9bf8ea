"""Specifications as frozen data: a study (a grid of runs and what to measure) and each single run."""

import os

# People read the errors of StudySpec(...): the address of a page about pydantic does not help them.
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

__all__ = ["BlockSpec", "Norm", "Order", "StrideOn"]
__all__ += ["DATASETS", "LISTED", "Cifar10", "Dataset", "Digits", "Folder", "Synthetic", "default_padding"]
__all__ += ["EXPANSION", "IMAGENET_FILTERS", "TABLE_1", "Family", "Table1", "depth_of", "has_plain"]
__all__ += ["Frozen", "canonical", "digest", "flatten", "leaves", "nest", "valid_depth"]
__all__ += ["PAPERS_RECIPES", "PAPER_STEPS", "Optimizer", "Recipe", "StudyRecipe"]
__all__ += ["NETWORKS", "PROBE_NAMES", "SCHEMA", "Initialization", "Measure", "Network", "Precision", "Probe"]
__all__ += ["RunSpec", "Shortcut", "upgrade"]
__all__ += ["GROWING", "SYNTHETIC_LABEL", "VARYING", "StudySpec", "nest_arms", "upgrade_study"]
