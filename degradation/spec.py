"""What is studied, as frozen data: a study (a grid of runs and what to measure) and each single run."""

import hashlib
import json
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

SCHEMA = 1
"""Number of the RunSpec's shape; part of every run id. ``upgrade`` fills what an older one lacked."""

PAPER_STEPS = 64_000  # He et al. 2015, section 4.2
SPLIT_EXAMPLES = 5_000  # the paper's 45k/5k split of the training set
Network = Literal["plain", "residual"]
Shortcut = Literal["none", "A", "B", "C"]
Precision = Literal["auto", "fp32", "bf16"]
Probe = Literal["gradients", "responses", "branches"]

NETWORKS: tuple[Network, ...] = ("plain", "residual")
PROBES: tuple[Probe, ...] = ("gradients", "responses", "branches")


class Frozen(BaseModel):
    """A specification: immutable, keyword-only, checked when made; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def valid_depth(depth: int) -> int:
    """``depth`` if it is 6n+2 with n >= 1 (section 4.2 of the paper); ValueError naming the nearest otherwise."""
    if depth >= 8 and depth % 6 == 2:
        return depth
    below = (depth - 2) // 6 * 6 + 2
    nearest = [str(candidate) for candidate in (below, below + 6) if candidate >= 8] or ["8"]
    raise ValueError(f"depth {depth} is not of the CIFAR family 6n+2; the nearest valid {plural(nearest, 'depth')}")


def plural(items: list[str], noun: str) -> str:
    """``depths are 20 and 26`` or ``depth is 8``."""
    return f"{noun}s are {' and '.join(items)}" if len(items) > 1 else f"{noun} is {items[0]}"


T = TypeVar("T")


def distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    """The values, if there is at least one and none stands twice."""
    if not values:
        raise ValueError("at least one value is needed")
    repeated = [str(value) for value in dict.fromkeys(values) if values.count(value) > 1]
    if repeated:
        raise ValueError(f"{', '.join(repeated)} stands twice")
    return values


Depth = Annotated[int, AfterValidator(valid_depth)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Step = Annotated[int, Field(ge=0)]


class Cifar10(Frozen):
    """CIFAR-10: 50,000 training and 10,000 test images of 32x32."""

    name: Literal["cifar10"] = "cifar10"
    validation: Literal[0, 5000] = 0
    """Training images held out, one fixed split for all seeds: 0, or 5,000 (the paper's 45k/5k)."""

    @property
    def size(self) -> int:
        return 32

    @property
    def train_examples(self) -> int:
        return 50_000 - self.validation

    @property
    def test_examples(self) -> int:
        return 10_000


class Synthetic(Frozen):
    """Coloured gratings in 10 classes made from a seed: a demonstration, no evidence about natural images."""

    name: Literal["synthetic"] = "synthetic"
    examples: int = Field(default=4000, ge=10, le=1_000_000)
    test_examples: int = Field(default=1000, ge=10, le=1_000_000)
    size: Literal[8, 16, 32] = 16
    noise: float = Field(default=1.0, ge=0)
    """Standard deviation of the noise, in units of the grating's amplitude."""
    seed: Seed = 0
    validation: int = Field(default=0, ge=0)

    @property
    def train_examples(self) -> int:
        return self.examples - self.validation

    @model_validator(mode="after")
    def leaves_training_images(self) -> Self:
        if self.validation >= self.examples:
            raise ValueError("validation must leave training images: it is not below examples")
        return self


Dataset = Annotated[Cifar10 | Synthetic, Field(discriminator="name")]


class Recipe(Frozen):
    """Optimizer, learning-rate schedule, batch and augmentation; the defaults are the paper's (section 4.2)."""

    learning_rate: float = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=1e-4, ge=0)
    batch: int = Field(default=128, ge=2, le=65_536)
    steps: int = Field(default=PAPER_STEPS, ge=1, le=10_000_000)
    warmup_steps: int = Field(default=0, ge=0)
    warmup_learning_rate: float = Field(default=0.01, gt=0)
    padding: int = Field(default=4, ge=0, le=16)
    """Zero pixels on each side before the random crop; 0 for no crop."""
    flip: bool = True

    @property
    def milestones(self) -> tuple[int, int]:
        """The steps at which the learning rate is divided by 10: 32k and 48k of 64k, scaled with ``steps``."""
        return self.steps // 2, 3 * self.steps // 4

    @property
    def changed(self) -> tuple[str, ...]:
        """Fields that are not the paper's, beside the length of schedule and warm-up: ``batch 64``."""
        lengths = ("steps", "warmup_steps")
        fields = {name: field.default for name, field in Recipe.model_fields.items() if name not in lengths}
        return tuple(
            f"{name} {getattr(self, name)}" for name, papers in fields.items() if getattr(self, name) != papers
        )

    @model_validator(mode="after")
    def warmup_ends_in_time(self) -> Self:
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} is above steps {self.steps}")
        return self


class StudyRecipe(Recipe):
    """The recipe of a study, whose warm-up may be a rule that each run turns into a number."""

    warmup_steps: Annotated[int, Field(ge=0)] | Literal["default", "paper"] = "default"  # type: ignore[assignment]

    def for_depth(self, depth: int) -> Recipe:
        """The recipe of one run: min(400, steps // 10), or the paper's 400 steps from depth 110 on."""
        rules = {"default": min(400, self.steps // 10), "paper": min(400, self.steps) if depth >= 110 else 0}
        fields = self.model_dump()
        warmup = fields["warmup_steps"]
        return Recipe(**(fields | {"warmup_steps": rules.get(warmup, warmup)}))

    @model_validator(mode="after")
    def warmup_ends_in_time(self) -> Self:
        if not isinstance(self.warmup_steps, str) and self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} is above steps {self.steps}")
        return self


class Measure(Frozen):
    """What is measured and when."""

    probes: tuple[Probe, ...] = PROBES
    probe_every: int | None = Field(default=None, ge=1)
    """Steps between probe rows; None: log-spaced to 1,000 steps, then every steps/64."""
    eval_every: int | None = Field(default=None, ge=1)
    """Steps between evaluations of the clean training and test error; None: steps/16, at most every two epochs."""
    eval_examples: int | None = Field(default=None, ge=1)
    """Examples of each split evaluated on the way (the first ones); None: all. The end is always on all."""
    snapshots: tuple[Step, ...] = ()
    """Steps at which the weights are kept beside the final ones."""


class RunSpec(Frozen):
    """One network trained once: every field that changes the outcome, and nothing else."""

    schema_number: int = SCHEMA
    dataset: Dataset
    network: Network
    depth: Depth
    shortcut: Shortcut
    seed: Seed
    recipe: Recipe
    precision: Precision = "auto"
    measure: Measure = Measure()
    start: None = None
    """Where the weights come from: None, drawn from the seed."""

    @model_validator(mode="after")
    def shortcut_fits_network(self) -> Self:
        if (self.network == "plain") != (self.shortcut == "none"):
            raise ValueError("a plain network has shortcut 'none', a residual one A, B or C")
        return self

    @property
    def epoch_steps(self) -> float:
        """Steps of one epoch: examples / batch."""
        return self.dataset.train_examples / self.recipe.batch

    @property
    def run_id(self) -> str:
        """Readable, and unique by the hash of every field: ``residual-A-56-s0-1c2f9a7e``."""
        kind = "plain" if self.network == "plain" else f"residual-{self.shortcut}"
        return f"{kind}-{self.depth}-s{self.seed}-{digest(self)}"


class StudySpec(Frozen):
    """A grid of runs and what to measure. Depths, networks, shortcuts and seeds may grow; the rest is fixed."""

    question: str = "Does a deeper plain network reach a higher training error, and do shortcuts change that?"
    depths: Annotated[tuple[Depth, ...], AfterValidator(distinct)] = (20, 32, 56, 110)
    networks: Annotated[tuple[Network, ...], AfterValidator(distinct)] = NETWORKS
    shortcuts: Annotated[tuple[Literal["A", "B", "C"], ...], AfterValidator(distinct)] = ("A",)
    seeds: Annotated[tuple[Seed, ...], AfterValidator(distinct)] = (0,)
    dataset: Dataset = Cifar10()
    recipe: StudyRecipe = StudyRecipe()
    precision: Precision = "auto"
    measure: Measure = Measure()

    @property
    def is_paper_schedule(self) -> bool:
        return self.recipe.steps == PAPER_STEPS

    @property
    def labels(self) -> tuple[str, ...]:
        """What every output of the study must say of it."""
        synthetic, changed = self.dataset.name == "synthetic", self.recipe.changed
        labels = {
            f"{self.recipe.steps:,} steps: not the paper's schedule": not self.is_paper_schedule,
            f"not the paper's recipe: {', '.join(changed)}": bool(changed) and not synthetic,
            SYNTHETIC_LABEL: synthetic,
        }
        return tuple(label for label, holds in labels.items() if holds)


SYNTHETIC_LABEL = (
    "synthetic images: a demonstration chosen to show the effect in minutes, no evidence about natural images"
)
GROWING = ("depths", "networks", "shortcuts", "seeds")


def canonical(spec: BaseModel) -> str:
    """The spec as JSON with sorted keys and no spaces: the same text for the same spec."""
    return json.dumps(spec.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))


def digest(spec: BaseModel) -> str:
    """Eight hexadecimal digits of the SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical(spec).encode()).hexdigest()[:8]


def flatten(spec: BaseModel) -> dict[str, Any]:
    """Every field with its dotted name: ``recipe.learning_rate`` -> 0.1."""
    return dict(_leaves(spec.model_dump(mode="json"), ""))


def _leaves(value: Any, name: str) -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        return [(name, value)]
    return [leaf for key, item in value.items() for leaf in _leaves(item, f"{name}.{key}" if name else key)]


def upgrade(fields: dict[str, Any]) -> RunSpec:
    """The RunSpec of a run on disk, with what an older schema lacked filled in."""
    return RunSpec.model_validate(fields | {"schema_number": SCHEMA})
