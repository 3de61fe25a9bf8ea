"""The data sets of studies, as frozen data."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from degradation.spec.fields import Frozen, Seed

PAPER_PADDING = 4  # zero pixels on each side, section 4.2
FULL_SIZE: Literal[32] = 32  # pixels of either side of a CIFAR-10 image, which the paper pads by 4


class Cifar10(Frozen):
    """CIFAR-10: 50,000 training and 10,000 test images of 32x32, or averaged to fewer pixels."""

    IMPLIED: ClassVar = {"size": FULL_SIZE}
    classes: ClassVar[int] = 10
    test_examples: ClassVar[int] = 10_000

    name: Literal["cifar10"] = "cifar10"
    size: Literal[8, 16, 32] = FULL_SIZE
    """Pixels of either side. Below 32 each pixel is the mean of a square of 2x2 or 4x4, rounded: the same images and
    labels at a fraction of the cost of a step."""
    validation: Literal[0, 5000] = 0
    """Training images held out, one fixed split for all seeds: 0, or 5,000 (the paper's 45k/5k)."""

    @property
    def train_examples(self) -> int:
        return 50_000 - self.validation


class Digits(Frozen):
    """Handwritten digits of 8x8 pixels in 16 grey levels: 1,500 training and 297 test images, part of the package.

    One fixed split of the 1,797 images for all seeds. Images of each of the 13 writers may be in both parts.
    """

    size: ClassVar[int] = 8
    classes: ClassVar[int] = 10
    test_examples: ClassVar[int] = 297

    name: Literal["digits"] = "digits"
    validation: int = Field(default=0, ge=0, le=1490)
    """Training images held out, one fixed split for all seeds."""

    @property
    def train_examples(self) -> int:
        return 1500 - self.validation


class Synthetic(Frozen):
    """Coloured gratings in 10 classes made from a seed: a demonstration, no evidence about natural images."""

    classes: ClassVar[int] = 10

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


LISTED = ("listing", "classes", "examples", "test_examples")
"""Fields of a Folder that are filled in from its directories."""


class Folder(Frozen):
    """Images in folders, one per class: ``train/CLASS/*.jpg`` and ``val/CLASS/*.jpg``.

    It holds the contents of the folder, not its path: a moved folder is the same data set. The fields of ``LISTED`` are
    filled in when its directories are read (``data.manifest``).
    """

    name: Literal["folder"] = "folder"
    crop: int = Field(default=224, ge=8, le=1024)
    """Pixels of either side of the network's input."""
    shorter: tuple[int, int] = (256, 480)
    """Least and greatest shorter side, in pixels, of an image before its random crop in training: a whole number drawn
    evenly (scale augmentation, section 3.4)."""
    clean_shorter: int = 256
    """Shorter side, in pixels, of an image before its centre crop in an evaluation."""
    validation: int = Field(default=0, ge=0)
    """Training images held out, one fixed split for all seeds."""
    listing: str = Field(default="", pattern="^([0-9a-f]{16})?$")
    """First 16 digits of the SHA-256 of class names, file names and sizes in bytes; empty before the folder is read."""
    classes: int = Field(default=0, ge=0)
    examples: int = Field(default=0, ge=0)
    """Training images, including those held out."""
    test_examples: int = Field(default=0, ge=0)

    @property
    def size(self) -> int:
        return self.crop

    @property
    def train_examples(self) -> int:
        return self.examples - self.validation

    def holding(self, other: "Folder") -> "Folder":
        """This spec with the fields of ``LISTED`` of another."""
        return Folder.model_validate(self.model_dump() | {name: getattr(other, name) for name in LISTED})

    @model_validator(mode="after")
    def crops_fit(self) -> Self:
        least, greatest = self.shorter
        if not self.crop <= least <= greatest <= 4096:
            raise ValueError(
                f"shorter is the least and the greatest shorter side, from crop ({self.crop}) to 4096 pixels, "
                f"not {least} and {greatest}"
            )
        if not self.crop <= self.clean_shorter <= 4096:
            raise ValueError(
                f"clean_shorter is from crop ({self.crop}) to 4096 pixels, not {self.clean_shorter}: a crop lies within"
            )
        if self.listing and self.validation >= self.examples:
            raise ValueError(
                f"validation must leave training images: it is {self.validation}, the folder has {self.examples}"
            )
        return self


DATASETS: dict[str, type[Cifar10 | Digits | Synthetic | Folder]] = {
    "cifar10": Cifar10,
    "digits": Digits,
    "synthetic": Synthetic,
    "folder": Folder,
}


def no_lone_name(value: Any) -> Any:
    """The value, if it is a table of fields or a spec; ValueError, with the correct form, for a name alone."""
    if isinstance(value, Mapping | Frozen):
        return value
    kind = next((kind for name, kind in DATASETS.items() if value == name or value is kind), None)
    calls = " or ".join(f"{each.__name__}()" for each in ([kind] if kind else DATASETS.values()))
    name = (kind or Cifar10)().name
    raise ValueError(f'expected a table such as {{name = "{name}"}}, in Python {calls}, not {value!r:.40}')


Dataset = Annotated[Cifar10 | Digits | Synthetic | Folder, Field(discriminator="name"), BeforeValidator(no_lone_name)]


def default_padding(dataset: Dataset) -> int:
    """The paper's 4 pixels of 32, in proportion to the images; 0 for a folder, which has its own crops."""
    return 0 if isinstance(dataset, Folder) else PAPER_PADDING * dataset.size // FULL_SIZE
