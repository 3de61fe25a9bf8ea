"""Images, in memory or in a folder -> the batches for training a run and for evaluating it."""

from typing import TypeAlias

from torch import Tensor

from degradation.data import AnyImages
from degradation.data.batches import Batches, CleanBatches
from degradation.data.images import Images
from degradation.data.streaming import StreamedBatches, StreamedCleanBatches
from degradation.runtime.environment import Environment
from degradation.spec import RunSpec

TrainingBatches: TypeAlias = Batches | StreamedBatches
Clean: TypeAlias = CleanBatches | StreamedCleanBatches
MOST_WORKERS = 16  # without --workers: with more, the pieces waiting in shared memory cost more than they gain


def workers_of(environment: Environment) -> int:
    """The worker processes that decode images for one run: the given number, or one per thread."""
    return min(environment.threads, MOST_WORKERS) if environment.workers is None else environment.workers


def training_batches(
    images: AnyImages, run: RunSpec, environment: Environment, rows: range | None = None
) -> TrainingBatches:
    """The batches of the run's steps, or these ``rows`` of each, on its device.

    UserError if there are fewer images than one batch has.
    """
    device = environment.torch_device
    if isinstance(images, Images):
        return Batches(images, run.recipe, run.seed, device, rows)
    return StreamedBatches(images, run.recipe, run.seed, device, workers_of(environment), rows)


def clean_batches(images: AnyImages, mean: Tensor, batch: int, environment: Environment) -> dict[str, Clean]:
    """The existing splits by name, in batches of ``batch`` images; minus the mean, on its device."""
    names = ("train", "test") if images.val is None else ("train", "val", "test")
    if isinstance(images, Images):
        return {name: CleanBatches(getattr(images, name), mean, batch) for name in names}
    workers = workers_of(environment)
    return {name: StreamedCleanBatches(images, getattr(images, name), mean, batch, workers) for name in names}
