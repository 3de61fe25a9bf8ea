"""A folder of images -> the batch of a step, decoded in advance by worker processes in an order set by the seed."""

import signal
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from degradation.data.batches import ALL, CHECKSUM_FACTOR, FLIPS, PERMUTATION, generator
from degradation.data.decoding import DRAW, Draws, clean_draws, decoded
from degradation.data.folder import StreamedImages
from degradation.data.manifest import Files
from degradation.errors import UserError
from degradation.runtime.signals import release_signals, signals_held
from degradation.spec import Recipe

SHORTER, PLACES, COLOURS = 3, 4, 5  # streams of the counter-based generator, in addition to those of ``batches``
PIECE = 16  # examples that a worker decodes at a time: 2.4 MB at 224 pixels
START = "fork" if sys.platform == "linux" else None
"""How a worker starts: a copy of this process is ready at once, a new one first imports torch, at every evaluation. It
uses neither the device nor torch's threads. None: the system's default."""
COLOUR_UNIT = 2**20  # parts of the colour range in which the checksum counts


class Decoded(NamedTuple):
    """Some examples as a worker returns them."""

    images: Tensor
    """uint8 (n, crop, crop, 3), after the flip."""
    labels: Tensor
    """int64 (n,)."""
    used: Tensor
    """int64 (n, 5): the index, shorter side, top, left and flip really used."""
    colour: Tensor
    """float32 (n, 3): added to the channels, in units of 0..1."""


def epoch_draws(images: StreamedImages, recipe: Recipe, seed: int, epoch: int) -> Draws:
    """The draws for each example of one epoch, in training order, from counter-based generators as in ``batches``."""
    examples = len(images.train)
    draws = np.zeros(examples, dtype=DRAW)
    least, greatest = images.spec.shorter
    draws["index"] = generator(seed, PERMUTATION, epoch).permutation(examples)
    draws["shorter"] = generator(seed, SHORTER, epoch).integers(least, greatest + 1, examples)
    draws["down"], draws["right"] = generator(seed, PLACES, epoch).random((2, examples))
    draws["flip"] = generator(seed, FLIPS, epoch).integers(0, 2, examples) * int(recipe.flip)
    multiples = recipe.colour * generator(seed, COLOURS, epoch).standard_normal((examples, 3))
    draws["colour"] = multiples @ np.array(images.colours.components)
    return draws


class Decoding(Dataset[Decoded | str]):
    """Draws -> Decoded examples, or the message of a file that cannot be read; used in the worker processes."""

    def __init__(self, files: Files, crop: int) -> None:
        self.files, self.crop = files, crop

    def __getitem__(self, draws: Draws) -> Decoded | str:
        images = np.empty((len(draws), self.crop, self.crop, 3), dtype=np.uint8)
        used = np.empty((len(draws), 5), dtype=np.int64)
        try:
            for row, draw in enumerate(draws):
                images[row], used[row] = decoded(self.files, draw, self.crop)
        except UserError as error:
            return str(error)
        labels, colour = self.files.labels[draws["index"]], np.ascontiguousarray(draws["colour"])
        return Decoded(*map(torch.from_numpy, (images, labels, used, colour)))


class Loader:
    """Decodes draws in worker processes, in their order, about ``ahead`` examples in advance.

    It uses torch's DataLoader, whose workers end with their parent process, however that ends.
    ``workers`` 0: decode in this process, when examples are requested.
    """

    def __init__(self, files: Files, crop: int, workers: int, ahead: int, device: torch.device) -> None:
        self.decoding, self.workers, self.pins = Decoding(files, crop), workers, device.type == "cuda"
        self.pieces_each = max(2, -(-ahead // (PIECE * workers))) if workers else None

    def __call__(self, batches: Iterable[Draws]) -> Iterator[Decoded]:
        """The examples of each batch, up to ``PIECE`` at a time. Raises UserError for a file that cannot be read."""
        loader = DataLoader(
            self.decoding,
            batch_size=None,
            sampler=_pieces(batches),
            num_workers=self.workers,
            prefetch_factor=self.pieces_each,
            multiprocessing_context=START if self.workers else None,
            pin_memory=self.pins,
            worker_init_fn=_begin_worker,
            generator=torch.Generator(),  # otherwise torch's global generator would advance
        )
        with signals_held():  # a worker starts with both signals held, until ``_begin_worker``
            pieces = iter(loader)
        try:
            for piece in pieces:
                if isinstance(piece, str):
                    raise UserError(piece)
                yield piece
        finally:
            del pieces  # its workers end now, not when a caught error is released


def _pieces(batches: Iterable[Draws]) -> Iterator[Draws]:
    """Batches of draws -> pieces of at most ``PIECE``, each within one batch."""
    for batch in batches:
        for first in range(0, len(batch), PIECE):
            yield batch[first : first + PIECE]


def _begin_worker(_number: int) -> None:
    """Ignore Ctrl-C, which reaches the whole group of processes: the parent decides when a worker ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    release_signals()


class StreamedBatches:
    """The training batches of one run, decoded in advance: the same interface as ``batches.Batches``.

    The batch of the step is in buffers on the device, which ``ready`` fills from pinned memory without waiting, so
    that a captured graph can be replayed over them. ``rows``: this process's part of each batch; the checksums of all
    parts add up to that of the whole.
    """

    def __init__(
        self,
        images: StreamedImages,
        recipe: Recipe,
        seed: int,
        device: torch.device,
        workers: int,
        rows: range | None = None,
    ) -> None:
        self.images, self.recipe, self.seed, self.device = images, recipe, seed, device
        self.mean = torch.from_numpy(images.mean_image).to(device)
        rows = range(recipe.batch) if rows is None else rows
        self.examples, self.first, self.last = len(images.train), rows.start, rows.stop
        if recipe.batch > self.examples:
            raise UserError(f"recipe.batch is {recipe.batch}, above the {self.examples} training examples: lower it")
        count, crop = self.last - self.first, images.spec.crop
        self._batch = Decoded(
            images=torch.zeros(count, crop, crop, 3, dtype=torch.uint8, device=device),
            labels=torch.zeros(count, dtype=torch.int64, device=device),
            used=torch.zeros(count, 5, dtype=torch.int64, device=device),
            colour=torch.zeros(count, 3, device=device),
        )
        self._weights = 2 * torch.arange(self.first, self.last, device=device) + 1
        self._loader = Loader(images.train, crop, workers, count, device)
        self._pieces: Iterator[Decoded] | None = None
        self._ready_step = -1
        self._draws = lru_cache(maxsize=2)(lambda epoch: epoch_draws(images, recipe, seed, epoch))

    def ready(self, step: int) -> None:
        """Put batch ``step`` into the buffers; fastest for the next one, which is decoded in advance."""
        if step == self._ready_step:
            return
        if self._pieces is None or step != self._ready_step + 1:
            self.close()
            self._pieces = self._loader(self._from(step))
        row = 0
        while row < self.last - self.first:
            piece = next(self._pieces)
            for buffer, part in zip(self._batch, piece, strict=True):
                buffer[row : row + len(part)].copy_(part, non_blocking=True)
            row += len(piece.labels)
        self._ready_step = step

    @property
    def ahead(self) -> int:
        """Number of batches decoded in advance, including the current one."""
        pieces = self._loader.workers * (self._loader.pieces_each or 0)
        return -(-pieces * PIECE // (self.last - self.first)) if pieces else 0

    def close(self) -> None:
        """End the workers; ``ready`` starts new ones."""
        self._pieces, self._ready_step = None, -1

    def _from(self, step: int) -> Iterator[Draws]:
        """The draws of this part of batch ``step`` and of every later one."""
        while True:
            yield self._at(step * self.recipe.batch + np.arange(self.first, self.last))
            step += 1

    def _at(self, positions: NDArray[np.int64]) -> Draws:
        """The draws at these positions of the concatenated epochs."""
        epochs, places = np.divmod(positions, self.examples)
        return np.concatenate([self._draws(int(epoch))[places[epochs == epoch]] for epoch in np.unique(epochs)])

    def fill(self, _step: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The batch in the buffers: images (n, 3, H, W; float32, channels last), labels (n,), checksum.

        The checksum covers the indices, shorter sides, crops, flips and colours really used, each weighted by its
        place in the batch (int64 scalar).
        """
        batch = self._batch
        images = batch.images.float() / 255 - self.mean + batch.colour[:, None, None, :]
        used, *crops = batch.used.unbind(1)
        for number in (*crops, *(batch.colour * COLOUR_UNIT).round().long().unbind(1)):
            used = used * CHECKSUM_FACTOR + number
        return images.permute(0, 3, 1, 2), batch.labels, (used * self._weights).sum()


class StreamedCleanBatches:
    """The first ``examples`` images of a split in index order: resized, centre crop, minus the mean, not augmented."""

    def __init__(self, images: StreamedImages, files: Files, mean: Tensor, batch: int, workers: int) -> None:
        self.spec, self.files, self.mean, self.batch = images.spec, files, mean, batch
        self._loader = Loader(files, images.spec.crop, workers, batch, mean.device)

    def count(self, examples: int | None) -> int:
        """Number of batches of the first ``examples``, or of all."""
        return -(-min(examples or len(self.files), len(self.files)) // self.batch)

    def __call__(self, examples: int | None, numbers: slice = ALL) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (up to batch, 3, H, W; float32, channels last) and labels of the first ``examples``, or of all.

        ``numbers`` chooses among the batches: ``slice(1, None, 4)`` yields batch 1, 5, 9, ...
        """
        count = min(examples or len(self.files), len(self.files))
        parts = [(first, min(first + self.batch, count)) for first in range(0, count, self.batch)[numbers]]
        pieces = self._loader(clean_draws(*part, self.spec) for part in parts)
        for first, last in parts:
            yield self._joined([next(pieces) for _ in range(-(-(last - first) // PIECE))])

    def _joined(self, pieces: list[Decoded]) -> tuple[Tensor, Tensor]:
        device = self.mean.device
        images = torch.cat([piece.images.to(device, non_blocking=True) for piece in pieces])
        labels = torch.cat([piece.labels.to(device, non_blocking=True) for piece in pieces])
        return (images.float() / 255 - self.mean).permute(0, 3, 1, 2), labels
