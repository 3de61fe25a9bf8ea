"""The data sets: which images a study trains on, as frozen data."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from degradation.spec.fields import Frozen, Seed


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
