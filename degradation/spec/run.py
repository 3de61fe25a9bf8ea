"""One run, as frozen data: every field that changes its outcome; its id, its schema and upgrades."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, get_args

from pydantic import Field, ValidationInfo, field_validator, model_validator

from degradation.spec.block import BlockSpec, Norm
from degradation.spec.datasets import Dataset
from degradation.spec.family import Family, builds, depth_of, has_plain
from degradation.spec.fields import Frozen, Seed, Step, digest
from degradation.spec.recipe import Recipe

if TYPE_CHECKING:
    from degradation.spec.study import StudySpec

SCHEMA = 4
"""Version of the RunSpec's fields; part of every run id. ``upgrade`` adds the fields that an older version lacks."""

Network = Literal["plain", "residual"]
Shortcut = Literal["none", "A", "B", "C"]
Initialization = Literal["he", "orthogonal", "delta-orthogonal", "dirac"]
Precision = Literal["auto", "fp32", "bf16"]
Probe = Literal["gradients", "responses", "branches"]

NETWORKS: tuple[Network, ...] = get_args(Network)
PROBE_NAMES: tuple[Probe, ...] = get_args(Probe)


class Measure(Frozen):
    """What is measured and when."""

    IMPLIED: ClassVar = {"final_examples": None}

    probes: tuple[Probe, ...] = PROBE_NAMES
    probe_every: int | None = Field(default=None, ge=1)
    """Steps between probe rows; None: log-spaced to 1,000 steps, then every steps/64."""
    eval_every: int | None = Field(default=None, ge=1)
    """Steps between evaluations of the clean training and test error; None: steps/16, at most every two epochs."""
    eval_examples: int | None = Field(default=None, ge=1)
    """Examples of each split evaluated during training (the first ones); None: all."""
    final_examples: int | None = Field(default=None, ge=1)
    """Examples of each split evaluated at the end (the first ones); None: all."""
    snapshots: tuple[Step, ...] = ()
    """Steps at which the weights are kept, in addition to the final ones."""


class RunSpec(Frozen):
    """One network trained once: every field that changes the outcome, and nothing else.

    The fields are those of StudySpec with one value for each axis. They give ``run_id``, such as
    ``plain-20-s0-81c264ac``; equal fields have an equal id.
    """

    schema_number: int = SCHEMA
    dataset: Dataset
    family: Family = "cifar"
    network: Network
    depth: int
    shortcut: Shortcut
    seed: Seed
    norm: Norm = "batch"
    width: int = Field(default=1, ge=1, le=64)
    initialization: Initialization = "he"
    block: BlockSpec = BlockSpec()
    recipe: Recipe
    precision: Precision = "auto"
    measure: Measure = Measure()
    start: None = None
    """Source of the initial weights: None, drawn from the seed."""

    @field_validator("depth")
    @classmethod
    def depth_is_of_the_family(cls, depth: int, info: ValidationInfo) -> int:
        return depth_of(info.data["family"], depth) if "family" in info.data else depth

    @model_validator(mode="after")
    def fields_fit_together(self) -> Self:
        fit_family(self)
        if self.network == "plain":
            has_plain(self.family, (self.depth,))
        if self.dataset.classes == 0:
            raise ValueError("the folder of images was not read: data.manifest.listed fills in what it holds")
        if (self.network == "plain") != (self.shortcut == "none"):
            raise ValueError("a plain network has shortcut 'none', a residual one A, B or C")
        self.block.fitting(self.norm)
        if self.network == "plain" and self.block.of_shortcut:
            raise ValueError(f"a plain network has no shortcut: leave out block.{self.block.of_shortcut[0]}")
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


def fit_family(spec: "RunSpec | StudySpec") -> None:
    """ValueError, naming the field, if the networks or images of a run or study do not fit its family or recipe."""
    builds(spec.family, norm=spec.norm, width=spec.width, initialization=spec.initialization, block=spec.block)
    if spec.recipe.colour and spec.dataset.name != "folder":
        raise ValueError("colour is an augmentation of images of a folder: leave recipe.colour out")


def upgrade(fields: dict[str, Any]) -> RunSpec:
    """The RunSpec of a run on disk, with the fields that an older schema lacks.

    Schema 1 had only SGD, batch norm, width 1 and He's initialization: these are the defaults of the fields of 2.
    Schema 2 had only the blocks of He et al. 2015. Schema 3 had only the CIFAR family, and no folder of images.
    """
    return RunSpec.model_validate(fields | {"schema_number": SCHEMA})
