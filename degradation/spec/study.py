"""A study, as frozen data: a grid of runs, the arms that repeat it with other values, and what to measure."""

import re
from collections.abc import Mapping
from itertools import combinations
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails

from degradation.spec.block import BlockSpec, Norm
from degradation.spec.datasets import Cifar10, Dataset, default_padding
from degradation.spec.family import TABLE_1, Family, depth_of, has_plain
from degradation.spec.fields import Frozen, Seed, distinct, flatten, leaves, merge, nest, printable
from degradation.spec.recipe import PAPERS_RECIPES, WARMUP_DEFAULT, WARMUP_DEFAULT_BEFORE, Recipe, StudyRecipe
from degradation.spec.run import NETWORKS, Initialization, Measure, Network, Precision, fit_family

SYNTHETIC_LABEL = (
    "synthetic images: a demonstration chosen to show the effect in minutes, no evidence about natural images"
)
DIGITS_LABEL = "handwritten digits of 8x8 pixels: real images of an easy task, not the paper's CIFAR-10"
SMALL_LABEL = "CIFAR-10 averaged to {size}x{size} pixels: not the paper's 32x32"
PLATEAU_LABEL = "learning rate divided at fixed steps: the paper divides it when the error plateaus"
STRIDE_LABEL = "the bottleneck's stride is on its 3x3 convolution: the paper's is on the first 1x1 one"
ALWAYS = ("question", "depths", "networks", "shortcuts", "seeds", "dataset", "recipe", "measure")
"""Fields that every version has written to a study's file."""
MISSING = ("NA", "NULL", "NaN", "None", "-NaN", "-nan", "nan", "null")
"""Texts that CSV readers take for a missing value."""
GROWING = ("depths", "networks", "shortcuts", "seeds")
VARYING = ("recipe", "norm", "width", "initialization", "block")
"""Fields that an arm may change. Data, precision and measurements belong to the whole study: its arms are compared."""


def nest_arms(arms: Any) -> Any:
    """The arms with the dotted fields of each nested; a value that is no table of tables stays, for validation."""
    if not isinstance(arms, Mapping):
        return arms
    return {name: nest(arm) if isinstance(arm, Mapping) else arm for name, arm in arms.items()}


Arms = Annotated[dict[str, dict[str, Any]], BeforeValidator(nest_arms)]


class StudySpec(Frozen):
    """A grid of runs, and what to measure. A study on disk may grow by depths, networks, shortcuts, seeds and arms.

    Parameters
    ----------
    question : str
        What the study asks; the title of its report.
    family : "cifar" or "imagenet"
        Networks of section 4.2 (depths 6n+2), or of Table 1.
    depths, networks, shortcuts, seeds : tuple
        The grid. Shortcuts are those of residual networks.
    dataset : Cifar10, Digits, Synthetic or Folder
        The images.
    norm, width, initialization, block
        As in ``degradation.network``.
    recipe : StudyRecipe
        Optimizer, schedule and augmentation.
    precision : "auto", "fp32" or "bf16"
        Arithmetic of the layers; weights are float32.
    measure : Measure
        Probes, and how often to measure.
    arms : dict
        Repeats the grid, each time with other values of some fields, for example
        ``{"sgd": {}, "adam": {"recipe.optimizer": "adam", "recipe.learning_rate": 0.001}}``.

    Raises
    ------
    pydantic.ValidationError
        A field or value that does not exist, or values that do not fit together.

    Examples
    --------
    >>> import degradation
    >>> study = degradation.StudySpec(depths=(20, 56), seeds=(0, 1, 2))
    >>> study.recipe.steps, study.recipe.learning_rate
    (64000, 0.1)
    """

    question: Annotated[str, AfterValidator(printable)] = (
        "Does a deeper plain network reach a higher training error, and do shortcuts change that?"
    )
    family: Family = "cifar"
    """Of section 4.2 (depths 6n+2), or of section 4.1 (Table 1)."""
    depths: Annotated[tuple[int, ...], AfterValidator(distinct)] = Field(
        default=(20, 32, 56, 110), validate_default=True
    )
    networks: Annotated[tuple[Network, ...], AfterValidator(distinct)] = NETWORKS
    shortcuts: Annotated[tuple[Literal["A", "B", "C"], ...], AfterValidator(distinct)] = ("A",)
    seeds: Annotated[tuple[Seed, ...], AfterValidator(distinct)] = (0,)
    dataset: Dataset = Cifar10()
    norm: Norm = "batch"
    width: int = Field(default=1, ge=1, le=64)
    """The stages have 16, 32 and 64 filters times this."""
    initialization: Initialization = "he"
    block: BlockSpec = BlockSpec()
    recipe: StudyRecipe = StudyRecipe()
    precision: Precision = "auto"
    measure: Measure = Measure()
    arms: Arms = Field(default={}, validate_default=False)  # the last field: it is checked against all others

    @field_validator("depths")
    @classmethod
    def depths_are_of_the_family(cls, depths: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        return tuple(depth_of(info.data["family"], each) for each in depths) if "family" in info.data else depths

    @model_validator(mode="after")
    def family_builds_it(self) -> Self:
        fit_family(self)
        if "plain" in self.networks:
            has_plain(self.family, self.depths)
        return self

    @field_validator("block")
    @classmethod
    def block_fits(cls, block: BlockSpec, info: ValidationInfo) -> BlockSpec:
        """Check that the blocks fit the norm, and that networks have a shortcut if the block changes it."""
        if block.of_shortcut and "residual" not in info.data.get("networks", NETWORKS):
            raise ValueError(f"{block.of_shortcut[0]} is a shortcut's: networks must have residual")
        return block.fitting(info.data.get("norm", "batch"))

    @field_validator("arms")
    @classmethod
    def arms_fit(cls, arms: dict[str, dict[str, Any]], info: ValidationInfo) -> dict[str, dict[str, Any]]:
        """Check that every arm is a valid study, and that no two give the same run."""
        if set(cls.model_fields) - set(info.data) != {"arms"}:
            return arms  # another field has an error already
        base = cls.model_construct(**info.data).model_dump()
        studies = {name: _arm(base, name, changes) for name, changes in arms.items()}
        for first, second in combinations(studies, 2):
            for depth in studies[first].depths:
                if _distinctive(studies[first], depth) == _distinctive(studies[second], depth):
                    raise ValueError(f"arms {first} and {second} are the same run at depth {depth}: leave one out")
        validated = {name: flatten(study) for name, study in studies.items()}
        return {name: nest({field: validated[name][field] for field in leaves(arms[name])}) for name in arms}

    @property
    def each_arm(self) -> dict[str, "StudySpec"]:
        """Name of each arm -> its study, without arms; a study without arms has the name ``""``."""
        base = self.model_dump() | {"arms": {}}
        return {name: _arm(base, name, changes) for name, changes in self.arms.items()} or {"": self}

    def changes(self, arm: str) -> str:
        """The changes of an arm as text: ``optimizer adam, learning_rate 0.001``, or ``as the study``."""
        changed = [f"{field.split('.')[-1]} {value}" for field, value in leaves(self.arms[arm]).items()]
        return ", ".join(changed) or "as the study"

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels that every output of the study must show; one for some arms only starts with their names."""
        each = {name: arm._own_labels() for name, arm in self.each_arm.items()}
        holds = {label: [name for name in each if label in each[name]] for own in each.values() for label in own}
        return tuple(
            label if len(names) == len(each) else f"{' and '.join(names)}: {label}" for label, names in holds.items()
        )

    def recipe_at(self, depth: int) -> Recipe:
        """The recipe of a run of this depth, with numbers in place of rules."""
        return self.recipe.of_run(depth, default_padding(self.dataset))

    def begun(self) -> "StudySpec":
        """This study as it is kept on disk: rules by their names, the padding as a number."""
        fields = _with_warmup(self.model_dump(), WARMUP_DEFAULT)
        fields["recipe"]["padding"] = self.recipe_at(self.depths[0]).padding
        return StudySpec.model_validate(fields)

    def as_asked(self) -> "StudySpec":
        """The inverse of ``begun``: warm-up and padding are ``default`` again if that means the same."""
        usual = {"warmup_steps": WARMUP_DEFAULT, "padding": default_padding(self.dataset)}
        same = {name: "default" for name, value in usual.items() if getattr(self.recipe, name) == value}
        return self.model_copy(update={"recipe": self.recipe.model_copy(update=same)})

    def continuing(self, on_disk: "StudySpec") -> "StudySpec":
        """This study with the warm-up and the padding of the one on disk in place of ``default``."""
        unset = [name for name in ("warmup_steps", "padding") if getattr(self.recipe, name) == "default"]
        recipe = self.recipe.model_copy(update={name: getattr(on_disk.recipe, name) for name in unset})
        return self.model_copy(update={"recipe": recipe})

    @property
    def paper_steps(self) -> int:
        """Updates of a run in the paper: 64,000 on CIFAR-10, 600,000 on ImageNet."""
        return PAPERS_RECIPES[self.family].steps

    @property
    def data_label(self) -> str:
        """The label of the images for every output; empty for the paper's."""
        labels = {"synthetic": SYNTHETIC_LABEL, "digits": DIGITS_LABEL}
        small = isinstance(self.dataset, Cifar10) and self.dataset.size != Cifar10().size
        return SMALL_LABEL.format(size=self.dataset.size) if small else labels.get(self.dataset.name, "")

    def _own_labels(self) -> tuple[str, ...]:
        synthetic = self.dataset.name == "synthetic"
        # A folder's images are not padded; padding in proportion to the image size is that of the paper.
        as_paper = self.dataset.name == "folder" or self.recipe.padding in ("default", default_padding(self.dataset))
        changed = self.recipe.changed_from(PAPERS_RECIPES[self.family], ignoring=("padding",) if as_paper else ())
        bottlenecks = self.family == "imagenet" and any(TABLE_1[depth].bottleneck for depth in self.depths)
        names = [name for name in VARYING if name not in ("recipe", "block") and getattr(self, name) != PAPERS[name]]
        built = (*(f"{name} {getattr(self, name)}" for name in names), *self.block.changed)
        labels = {
            f"{self.recipe.steps:,} steps: not the paper's schedule": self.recipe.steps != self.paper_steps,
            f"not the paper's recipe: {', '.join(changed)}": bool(changed) and not synthetic,
            f"not the paper's networks: {', '.join(built)}": bool(built),
            PLATEAU_LABEL: self.family == "imagenet",
            STRIDE_LABEL: bottlenecks and self.block.stride_on == "3x3",
            self.data_label: bool(self.data_label),
        }
        return tuple(label for label, holds in labels.items() if holds)


def _with_warmup(fields: dict[str, Any], rule: str) -> dict[str, Any]:
    """The fields of a study, with the name of a rule in place of the default warm-up, also in each arm."""
    named = dict(fields)
    if isinstance(recipe := fields.get("recipe"), dict) and recipe.get("warmup_steps") == "default":
        named["recipe"] = recipe | {"warmup_steps": rule}
    if isinstance(arms := fields.get("arms"), dict):
        named["arms"] = {n: _with_warmup(arm, rule) if isinstance(arm, dict) else arm for n, arm in arms.items()}
    return named


def upgrade_study(fields: dict[str, Any]) -> StudySpec:
    """The study on disk as its version meant it: before 0.2 ``default`` was another rule of warm-up.

    A study of this version holds the name of its rule. ValidationError if a field of ``ALWAYS`` is missing: the default
    in place of a lost field would make another study.
    """
    if missing := [name for name in ALWAYS if name not in fields]:
        error = ValueError(f"a study on disk has the fields {', '.join(missing)}, this one has not")
        wrong = InitErrorDetails(type="value_error", input="", ctx={"error": error})
        raise ValidationError.from_exception_data("study", [wrong])
    return StudySpec.model_validate(_with_warmup(fields, WARMUP_DEFAULT_BEFORE))


PAPERS = {name: StudySpec.model_fields[name].default for name in VARYING}


def _arm(base: dict[str, Any], name: str, changes: dict[str, Any]) -> StudySpec:
    """The study of one arm; its name is the first part of the path in errors."""
    if not re.fullmatch(r"[\w .,=+-]{1,40}", name):
        raise ValueError(f"arm {name!r}: expected a name of at most 40 letters, digits, spaces and . , = + - _")
    if name in MISSING:
        raise ValueError(f"arm {name}: readers of CSV take this name for a missing value: choose another")
    for field in changes:
        if field in StudySpec.model_fields and field not in VARYING:
            raise ValueError(f"arm {name}: {field} belongs to the whole study; an arm changes {', '.join(VARYING)}")
    try:
        return StudySpec.model_validate(merge(base, changes))
    except ValidationError as error:
        details = [
            InitErrorDetails(type=e["type"], loc=(name, *e["loc"]), input=e["input"], ctx=e.get("ctx", {}))
            for e in error.errors(include_url=False)
        ]
        raise ValidationError.from_exception_data("arms", details) from None


def _distinctive(study: StudySpec, depth: int) -> tuple[Recipe, Norm, int, Initialization, BlockSpec]:
    return study.recipe_at(depth), study.norm, study.width, study.initialization, study.block
