"""Images in memory -> the batch of a step: crop, flip and normalization on the device, in an order set by the seed."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from degradation.data.images import Images, Split
from degradation.errors import UserError
from degradation.spec import Recipe

PERMUTATION, CROPS, FLIPS = range(3)  # streams of the counter-based generator
CHECKSUM_FACTOR = 6364136223846793005  # odd, so that multiplication modulo 2^64 loses nothing (Knuth's MMIX)
ALL = slice(None)


def generator(seed: int, stream: int, epoch: int) -> np.random.Generator:
    """Philox keyed by (seed, stream), with the epoch in the highest word of its counter.

    The same on every device and in any order of calls: there is no state to save.
    """
    return np.random.Generator(np.random.Philox(key=[seed, stream], counter=[0, 0, 0, epoch]))


def epoch_order(seed: int, epoch: int, examples: int, recipe: Recipe) -> np.ndarray:
    """Index, row offset, column offset and flip of each example of an epoch, in training order: int64 (4, examples)."""
    index = generator(seed, PERMUTATION, epoch).permutation(examples)
    offsets = generator(seed, CROPS, epoch).integers(0, 2 * recipe.padding + 1, (2, examples))
    flips = generator(seed, FLIPS, epoch).integers(0, 2, examples) * int(recipe.flip)
    return np.stack([index, *offsets, flips]).astype(np.int64)


def pixels(split: Split, device: torch.device) -> tuple[Tensor, Tensor]:
    """Images (uint8, N H W 3) and labels (int64, N) of a split on the device."""
    return torch.from_numpy(split.images).to(device), torch.from_numpy(split.labels).to(device)


class Batches:
    """The training batches of one run: batch s covers positions s*batch to (s+1)*batch of the concatenated epochs.

    Always of full size, across epoch ends. The order of two epochs is in buffers on the device (position p in
    slot p modulo 2 epochs), so that filling a batch is arithmetic on a step counter there.
    ``rows``: this process's rows of every batch if several processes share it; None for all.
    """

    def __init__(
        self, images: Images, recipe: Recipe, seed: int, device: torch.device, rows: range | None = None
    ) -> None:
        self.images, self.labels = pixels(images.train, device)
        self.mean = torch.from_numpy(images.mean_image).to(device)
        self.recipe, self.seed, self.device = recipe, seed, device
        self.examples = len(images.train.labels)
        if recipe.batch > self.examples:
            raise UserError(f"recipe.batch is {recipe.batch}, above the {self.examples} training examples: lower it")
        self.order = torch.zeros(4, 2 * self.examples, dtype=torch.int64, device=device)
        self._epochs = [-1, -1]  # in the two halves of ``order``
        rows = range(recipe.batch) if rows is None else rows
        self._slots = torch.arange(rows.start, rows.stop, device=device)
        self._side = torch.arange(images.train.images.shape[1], device=device)
        self._weights = 2 * self._slots + 1

    def ready(self, step: int) -> None:
        """Put the order of the epochs of batch ``step`` into the buffers; host work once per epoch."""
        first = step * self.recipe.batch
        for epoch in range(first // self.examples, (first + self.recipe.batch - 1) // self.examples + 1):
            half = epoch % 2
            if self._epochs[half] != epoch:
                order = torch.from_numpy(epoch_order(self.seed, epoch, self.examples, self.recipe))
                self.order[:, half * self.examples : (half + 1) * self.examples].copy_(order)
                self._epochs[half] = epoch

    @property
    def ahead(self) -> int:
        """Number of batches prepared in advance."""
        return 0

    def close(self) -> None:
        """End nothing: the images are on the device."""

    def fill(self, step: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The batch of the step in the counter ``step`` (int64 scalar on the device; call ``ready`` before).

        Returns images (rows, 3, H, W; float32, channels last), labels (rows), and the checksum of the indices, crops
        and flips really used, each weighted by its place in the batch (int64 scalar). The checksums of the parts of a
        batch add up to that of the batch.
        """
        slot = (step * self.recipe.batch + self._slots) % (2 * self.examples)
        index, down, right, flip = self.order[:, slot]
        used = ((index * 64 + down) * 64 + right) * 2 + flip
        return self._augmented(index, down, right, flip), self.labels[index], (used * self._weights).sum()

    def _augmented(self, index: Tensor, down: Tensor, right: Tensor, flip: Tensor) -> Tensor:
        """Subtract the mean image, then pad with zeros, crop and flip (section 4.2), in one gather."""
        side = len(self._side)
        across = torch.where(flip[:, None].bool(), side - 1 - self._side, self._side)
        row = self._side + (down[:, None] - self.recipe.padding)
        column = across + (right[:, None] - self.recipe.padding)
        inside = ((row >= 0) & (row < side))[:, :, None] & ((column >= 0) & (column < side))[:, None, :]
        row, column = row.clamp(0, side - 1)[:, :, None], column.clamp(0, side - 1)[:, None, :]
        cropped = self.images[index[:, None, None], row, column].float() / 255 - self.mean[row, column]
        return (cropped * inside[..., None]).permute(0, 3, 1, 2)


class CleanBatches:
    """The first ``examples`` images of a split in index order, minus the mean image, not augmented."""

    def __init__(self, split: Split, mean: Tensor, batch: int) -> None:
        self.images, self.labels = pixels(split, mean.device)
        self.mean, self.batch = mean, batch

    def count(self, examples: int | None) -> int:
        """Number of batches of the first ``examples``, or of all."""
        return -(-min(examples or len(self.labels), len(self.labels)) // self.batch)

    def __call__(self, examples: int | None, numbers: slice = ALL) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (up to batch, 3, H, W; float32, channels last) and labels of the first ``examples``, or of all.

        ``numbers`` chooses among the batches: ``slice(1, None, 4)`` yields batch 1, 5, 9, ...
        """
        count = min(examples or len(self.labels), len(self.labels))
        for first in range(0, count, self.batch)[numbers]:
            part = slice(first, min(first + self.batch, count))
            yield (self.images[part].float() / 255 - self.mean).permute(0, 3, 1, 2), self.labels[part]
