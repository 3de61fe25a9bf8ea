"""The recipe: optimizer, learning-rate schedule, batch and augmentation, as frozen data."""

from collections.abc import Callable, Collection
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from degradation.spec.fields import Frozen

PAPER_STEPS = 64_000  # He et al. 2015, section 4.2
IMAGENET_STEPS = 600_000  # section 3.4: up to 60 x 10^4
ADAMS_BETA2 = 0.999  # Kingma and Ba 2015, algorithm 1
Optimizer = Literal["sgd", "adam"]


class Recipe(Frozen):
    """Optimizer, learning-rate schedule, batch and augmentation; the defaults are the paper's (section 4.2)."""

    optimizer: Optimizer = "sgd"
    learning_rate: float = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of SGD; for Adam beta1, the decay of the first moment."""
    beta2: float = Field(default=ADAMS_BETA2, ge=0, lt=1)
    """For Adam only: the decay of the second moment (Kingma and Ba 2015, algorithm 1, whose epsilon is 1e-8)."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """Times the weight, added to its gradient, for either optimizer."""
    batch: int = Field(default=128, ge=2, le=65_536)
    ghost_batches: int = Field(default=1, ge=1)
    """Equal parts of a batch, each normalized by itself in batch norm (Hoffer et al. 2017, arXiv:1705.08741,
    algorithm 1), as in processes that share a batch. The number of processes is no part of a recipe."""
    steps: int = Field(default=PAPER_STEPS, ge=1, le=10_000_000)
    warmup_steps: int = Field(default=0, ge=0)
    warmup_learning_rate: float = Field(default=0.01, gt=0)
    padding: int = Field(default=4, ge=0, le=16)
    """Zero pixels on each side before the random crop; 0 for no crop. Images of a folder have none: their random crops
    are set by ``dataset.shorter``."""
    flip: bool = True
    colour: float = Field(default=0.0, ge=0, le=10)
    """Colour augmentation of images of a folder: multiples of the principal components of their colours are added to an
    image; this is the standard deviation of the multiples (Krizhevsky et al. 2012, section 4.1: 0.1)."""

    @property
    def normalized_together(self) -> int:
        """Images per normalization of batch norm."""
        return self.batch // self.ghost_batches

    @property
    def milestones(self) -> tuple[int, int]:
        """The steps at which the learning rate is divided by 10: 32k and 48k of 64k, scaled with ``steps``."""
        return self.steps // 2, 3 * self.steps // 4

    def changed_from(self, papers: "Recipe", *, ignoring: Collection[str] = ()) -> tuple[str, ...]:
        """Fields that differ from the paper's, other than schedule length and warm-up: ``batch 64``."""
        names = [name for name in Recipe.model_fields if name not in ("steps", "warmup_steps", *ignoring)]
        return tuple(f"{name} {getattr(self, name)}" for name in names if getattr(self, name) != getattr(papers, name))

    @model_validator(mode="after")
    def fields_fit_together(self) -> Self:
        if isinstance(self.warmup_steps, int) and self.warmup_steps > self.steps:  # a study's may be a rule
            raise ValueError(f"warmup_steps {self.warmup_steps} is above steps {self.steps}: lower warmup_steps")
        if self.batch % self.ghost_batches or self.normalized_together < 2:
            raise ValueError(
                f"batch {self.batch} cannot be divided into ghost_batches {self.ghost_batches} of equally many images, "
                "two or more"
            )
        if self.optimizer != "adam" and self.beta2 != ADAMS_BETA2:
            raise ValueError(f"beta2 {self.beta2} is Adam's: leave it out, or set optimizer to adam")
        return self


PAPERS_RECIPES = {"cifar": Recipe(), "imagenet": Recipe(batch=256, steps=IMAGENET_STEPS, padding=0, colour=0.1)}
"""Family -> the paper's recipe (sections 4.2 and 3.4), except for its learning rate that follows the error."""

WARMUP_STEPS = 400  # section 4.2: about so many at depth 110; later work of the authors uses them at every depth
FIRST_DEPTH_WARMED_UP = 110  # in the paper
WARMUP_RULES: dict[str, Callable[[int, int], int]] = {
    "half": lambda steps, depth: min(WARMUP_STEPS, steps // 2),
    "tenth": lambda steps, depth: min(WARMUP_STEPS, steps // 10),
    "paper": lambda steps, depth: min(WARMUP_STEPS, steps) if depth >= FIRST_DEPTH_WARMED_UP else 0,
}
"""Name of a rule -> the warm-up of a run, from its steps and its depth."""
WARMUP_DEFAULT, WARMUP_DEFAULT_BEFORE = "half", "tenth"
"""The rule of ``default``, and its rule in studies from before version 0.2."""


class StudyRecipe(Recipe):
    """The recipe of a study; its warm-up and padding may be rules that give a number for each run."""

    warmup_steps: Annotated[int, Field(ge=0)] | Literal["default", "half", "tenth", "paper"] = "default"  # type: ignore[assignment]
    """A number, or a rule: ``half``, the default, is min(400, steps // 2); ``tenth`` is min(400, steps // 10);
    ``paper`` is 400 at depth 110 and more, and none below."""
    padding: Annotated[int, Field(ge=0, le=16)] | Literal["default"] = "default"  # type: ignore[assignment]
    """A number, or by default the paper's 4 pixels of 32 in proportion to the size of the images."""

    def of_run(self, depth: int, padding: int) -> Recipe:
        """The recipe of one run of this depth; ``padding`` is the value of the default for its images."""
        fields = self.model_dump()
        if isinstance(self.warmup_steps, str):
            rule = WARMUP_DEFAULT if self.warmup_steps == "default" else self.warmup_steps
            fields["warmup_steps"] = WARMUP_RULES[rule](self.steps, depth)
        if self.padding == "default":
            fields["padding"] = padding
        return Recipe(**fields)
