"""Arrays of pixels and labels -> the images of a study: its splits, their mean image, their fingerprint."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

HOLD_OUT_KEY = 45_000  # Philox key of the one 45k/5k split (section 4.2); fixed forever, for all seeds
FINGERPRINT_DIGITS = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Images uint8 (N, H, W, 3) with values 0..255, and labels int64 (N,); ValueError for anything else."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise ValueError(f"images must be uint8 (N, H, W, 3), not {images.dtype} {images.shape}")
        if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
            raise ValueError(f"labels must be int64 ({len(images)},), not {labels.dtype} {labels.shape}")

    def take(self, index: NDArray[np.intp]) -> "Split":
        """The examples at ``index``, in its order."""
        return Split(images=self.images[index], labels=self.labels[index])


@dataclass(frozen=True, kw_only=True, eq=False)
class Images:
    """The splits of a data set, the names of its classes by label, and its source."""

    train: Split
    val: Split | None
    test: Split
    classes: tuple[str, ...]
    source: str

    @cached_property
    def mean_image(self) -> NDArray[np.float32]:
        """The mean by pixel of the training split, in units of 0..1: float32 (H, W, 3), section 4.2.

        Summed in float64, in which sums of 0..255 are exact, and rounded once at the end.
        """
        mean: NDArray[Any] = self.train.images.mean(axis=0, dtype=np.float64) / 255
        return mean.astype(np.float32)

    @cached_property
    def fingerprint(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of shapes, images, labels: train, val if any, test."""
        sha = hashlib.sha256()
        for split in filter(None, (self.train, self.val, self.test)):
            sha.update(repr(split.images.shape).encode())
            sha.update(np.ascontiguousarray(split.images).data)
            sha.update(split.labels.astype("<i8").data)  # equal bytes for any byte order of the processor
        return sha.hexdigest()[:FINGERPRINT_DIGITS]

    @property
    def provenance(self) -> dict[str, str]:
        """Facts about the images for the provenance of a result."""
        return {"data": self.fingerprint}


def hold_out(train: Split, examples: int) -> tuple[Split, Split | None]:
    """The remaining training images, and ``examples`` validation images; None for 0.

    One fixed split for all seeds: the first ``examples`` entries of the permutation that Philox with key
    ``HOLD_OUT_KEY`` gives; classes are not balanced. Both parts keep the order of the training set.
    """
    if examples == 0:
        return train, None
    validation = held_out(len(train.labels), examples)
    return train.take(np.flatnonzero(~validation)), train.take(np.flatnonzero(validation))


def held_out(examples: int, count: int) -> NDArray[np.bool_]:
    """Mask of the ``count`` training examples for validation: bool (examples,), see ``hold_out``."""
    generator = np.random.Generator(np.random.Philox(key=HOLD_OUT_KEY))
    mask = np.zeros(examples, dtype=bool)
    mask[generator.permutation(examples)[:count]] = True
    return mask
