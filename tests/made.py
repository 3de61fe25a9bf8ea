"""Tiny images, runs and environments that the tests share."""

import numpy as np

from degradation.data.images import Images, Split
from degradation.runtime.environment import Environment
from degradation.spec import Measure, Recipe, RunSpec, StudyRecipe, StudySpec, Synthetic

CPU = Environment(device="cpu", precision="fp32", threads=1)


def split(examples: int, size: int = 8, seed: int = 0) -> Split:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (examples, size, size, 3), dtype=np.uint8)
    return Split(images=images, labels=rng.integers(0, 10, examples).astype(np.int64))


def images(examples: int = 48, size: int = 8, val: int = 0) -> Images:
    classes = tuple(f"class {number}" for number in range(10))
    return Images(
        train=split(examples, size, 0),
        val=split(val, size, 2) if val else None,
        test=split(20, size, 1),
        classes=classes,
        source="made for a test",
    )


def run_spec(
    network: str = "residual", depth: int = 8, *, steps: int = 6, measure: Measure | None = None, **recipe: object
) -> RunSpec:
    fields = {"batch": 16, "warmup_steps": 2, "padding": 1} | recipe
    return RunSpec(
        dataset=Synthetic(examples=48, test_examples=20, size=8),
        network=network,
        depth=depth,
        shortcut="none" if network == "plain" else "A",
        seed=0,
        recipe=Recipe(steps=steps, **fields),
        measure=measure or Measure(),
    )


def study_spec(**fields: object) -> StudySpec:
    """A study of two runs that takes about a second."""
    recipe = {"steps": 12, "batch": 16, "warmup_steps": 2, "padding": 1} | fields.pop("recipe", {})
    defaults = {
        "depths": (8,),
        "dataset": Synthetic(examples=48, test_examples=20, size=8),
        "measure": Measure(eval_every=5),
    }
    return StudySpec(**(defaults | fields), recipe=StudyRecipe(**recipe))
