"""A network with trained weights and a data set -> its test error, responses and gradients, without training."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from degradation.data.batches import ALL, CleanBatches
from degradation.data.images import Images, Split
from degradation.errors import UserError
from degradation.frames import schemas
from degradation.networks.cifar import CifarNetwork
from degradation.networks.layout import weight_of
from degradation.networks.weight_files import Weights
from degradation.probes import GRADIENTS, RESPONSES, Measurement, Readings, Taps
from degradation.runtime.environment import Environment
from degradation.training.evaluation import EvalSplit, Evaluator
from degradation.training.step import STATISTICS, forward, use_statistics

Channels = tuple[float, float, float]
WEIGHT_PROBES = (GRADIENTS, RESPONSES)


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """(pixel / 255 - mean) / std, by channel or by pixel."""

    mean: Tensor
    """(3,), or the mean image (H, W, 3)."""
    std: Tensor
    """(3,)."""


class ScaledBatches(CleanBatches):
    """Clean images in index order, normalized by mean and standard deviation."""

    def __init__(self, split: Split, normalization: Normalization, batch: int) -> None:
        super().__init__(split, normalization.mean, batch)
        self.std = normalization.std[:, None, None]

    def __call__(self, examples: int | None, numbers: slice = ALL) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (up to batch, 3, H, W; float32) and labels, to the end of the stated part."""
        for images, labels in super().__call__(examples, numbers):
            yield images / self.std, labels


def normalization(
    channels: tuple[Channels, Channels] | None, images: Images, weights: Weights, device: torch.device
) -> Normalization:
    """Mean and std by channel as given; for None the paper's: minus the mean image, the file's if it has one.

    Raises UserError if the file's mean image is of another size than the data set's.
    """
    if channels is not None:
        mean, std = (torch.tensor(values, device=device) for values in channels)
        return Normalization(mean=mean, std=std)
    mean = torch.from_numpy(images.mean_image) if weights.mean_image is None else weights.mean_image.float()
    if mean.shape != images.mean_image.shape:
        raise UserError(
            f"the mean image in {weights.file} is {tuple(mean.shape)}, the images are {images.mean_image.shape}: "
            "was it trained on this data set?"
        )
    return Normalization(mean=mean.to(device), std=torch.ones(3, device=device))


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """Measurements of a network: the frames ``curves`` (split test), ``gradients`` and ``responses``."""

    frames: Mapping[str, pd.DataFrame]
    not_finite: Mapping[str, int]
    """Kind of statistics -> number of test images with a NaN or infinite output; with any, the error is NaN."""


@dataclass(frozen=True, kw_only=True)
class Prober:
    """The data to probe a trained network with: ``batch`` training images, ``examples`` test images for its error."""

    images: Images
    normalization: Normalization
    environment: Environment
    step: int = 0
    """The step that the weights are from, for the column ``step``."""
    batch: int = 128
    examples: int | None = None

    def __call__(self, network: CifarNetwork) -> ProbeResult:
        """Measure a network, without changing it.

        Responses are of the first ``batch`` training images, clean, with running and with batch statistics; gradients
        are of their mean loss, with batch statistics, as in training.
        """
        network = network.to(self.environment.torch_device).eval()
        by_statistics = {statistics: self._probe(network, statistics) for statistics in STATISTICS}
        curves, not_finite = self._errors(network)
        responses = pd.concat([frames["responses"] for frames in by_statistics.values()], ignore_index=True)
        frames = {"curves": curves, "gradients": by_statistics["batch"]["gradients"], "responses": responses}
        return ProbeResult(frames=frames, not_finite=not_finite)

    def _errors(self, network: CifarNetwork) -> tuple[pd.DataFrame, dict[str, int]]:
        """The frame ``curves``, and the number of images with outputs that are not finite, by kind of statistics."""
        evaluate = Evaluator(network, self.environment, lambda message: None)
        batches = ScaledBatches(self.images.test, self.normalization, self.batch)
        split = EvalSplit(batches=batches, examples=self.examples)
        rows, not_finite = [], {}
        for statistics in STATISTICS:
            result = evaluate(split, statistics)
            count = 0 if math.isfinite(result.loss) else self._not_finite(network, split, statistics)
            not_finite[statistics] = count
            error = math.nan if count else result.error  # a NaN has no largest output, so it is neither right nor wrong
            row = {"step": self.step, "epoch": math.nan, "learning_rate": math.nan, "split": "test"}
            row |= {"statistics": statistics, "loss": result.loss, "error": error, "examples": result.examples}
            rows.append(row)
        return schemas.frame("curves", rows), not_finite

    @torch.inference_mode()
    def _not_finite(self, network: CifarNetwork, split: EvalSplit, statistics: str) -> int:
        """The number of images with a NaN or infinite output."""
        with use_statistics(network, statistics):
            outputs = (forward(network, images, self.environment) for images, _ in split.batches(split.examples))
            return sum(int((~logits.isfinite()).any(1).sum()) for logits in outputs)

    def _probe(self, network: CifarNetwork, statistics: str) -> dict[str, pd.DataFrame]:
        """The frames of the probes, with these batch-norm statistics."""
        images, labels = next(iter(ScaledBatches(self.images.train, self.normalization, self.batch)(None)))
        with use_statistics(network, statistics):
            numbers = _read(network, images, labels, self.environment)
        readings = Readings(WEIGHT_PROBES, network.layout)
        readings.add(self.step, numbers)
        return readings.frames({"split": "train", "statistics": statistics, "examples": len(labels)})


def _read(network: CifarNetwork, images: Tensor, labels: Tensor, environment: Environment) -> Tensor:
    """The numbers that the probes read in one forward and backward pass."""
    layout = network.layout
    weights = [weight_of(network, layer) for layer in layout.layers]
    with Taps(network, GRADIENTS.needs(layout)) as taps:
        loss = F.cross_entropy(forward(network, images, environment), labels)
    gradients = torch.autograd.grad(loss, [*weights, *taps.outputs.values()])
    measurement = Measurement(
        layout=layout,
        outputs={name: output.detach() for name, output in taps.outputs.items()},
        normalized=taps.normalized,
        output_gradients=dict(zip(taps.outputs, gradients[len(weights) :], strict=True)),
        weights=tuple(weight.detach() for weight in weights),
        weight_gradients=tuple(gradients[: len(weights)]),
        updates=None,
    )
    with torch.no_grad():
        return Readings.read(WEIGHT_PROBES, measurement)
