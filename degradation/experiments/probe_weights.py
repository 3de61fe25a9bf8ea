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
from degradation.frames import schemas as frames
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
    """Mean and std by channel as given; for None the paper's: minus the mean image, of the file where it holds one.

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
    """What was measured of a network: the frames ``curves`` (split test), ``gradients`` and ``responses``."""

    frames: Mapping[str, pd.DataFrame]
    not_finite: Mapping[str, int]
    """Kind of statistics -> of how many test images an output is NaN or infinite; with any, the error is NaN."""


@dataclass(frozen=True, kw_only=True)
class Prober:
    """What a trained network is probed with: ``batch`` training images, and ``examples`` test images for its error."""

    images: Images
    normalization: Normalization
    environment: Environment
    step: int = 0
    """For the column ``step``: where the weights are from."""
    batch: int = 128
    examples: int | None = None

    def __call__(self, network: CifarNetwork) -> ProbeResult:
        """Measure a network, which is left as it was.

        Responses are of the first ``batch`` training images, clean, with running and with batch statistics; gradients
        of their mean loss, with batch statistics, as in training.
        """
        network = network.to(self.environment.torch_device).eval()
        by_statistics = {statistics: self._inside(network, statistics) for statistics in STATISTICS}
        curves, not_finite = self._errors(network)
        measured = {
            "curves": curves,
            "gradients": by_statistics["batch"]["gradients"],
            "responses": pd.concat([found["responses"] for found in by_statistics.values()], ignore_index=True),
        }
        return ProbeResult(frames=measured, not_finite=not_finite)

    def _errors(self, network: CifarNetwork) -> tuple[pd.DataFrame, dict[str, int]]:
        """The frame ``curves``; and of how many images the outputs are not finite, by kind of statistics."""
        evaluate = Evaluator(network, self.environment, lambda message: None)
        part = EvalSplit(
            batches=ScaledBatches(self.images.test, self.normalization, self.batch), examples=self.examples
        )
        rows, not_finite = [], {}
        for statistics in STATISTICS:
            found = evaluate(part, statistics)
            lost = 0 if math.isfinite(found.loss) else self._not_finite(network, part, statistics)
            not_finite[statistics] = lost
            error = math.nan if lost else found.error  # a NaN has no largest output: whatever is counted is no error
            row = {"loss": found.loss, "error": error, "examples": found.examples}
            unknown = {"epoch": float("nan"), "learning_rate": float("nan")}
            rows.append({"step": self.step, "split": "test", "statistics": statistics} | row | unknown)
        return frames.frame("curves", rows), not_finite

    @torch.inference_mode()
    def _not_finite(self, network: CifarNetwork, part: EvalSplit, statistics: str) -> int:
        """Of how many images an output is NaN or infinite."""
        with use_statistics(network, statistics):
            outputs = (forward(network, images, self.environment) for images, _ in part.batches(part.examples))
            return sum(int((~logits.isfinite()).any(1).sum()) for logits in outputs)

    def _inside(self, network: CifarNetwork, statistics: str) -> dict[str, pd.DataFrame]:
        images, labels = next(iter(ScaledBatches(self.images.train, self.normalization, self.batch)(None)))
        with use_statistics(network, statistics):
            numbers = _read(network, images, labels, self.environment)
        readings = Readings(WEIGHT_PROBES, network.layout)
        readings.add(self.step, numbers)
        return readings.frames({"split": "train", "statistics": statistics, "examples": len(labels)})


def _read(network: CifarNetwork, images: Tensor, labels: Tensor, environment: Environment) -> Tensor:
    """What the probes read of one forward and backward."""
    layout = network.layout
    weights = [weight_of(network, layer) for layer in layout.layers]
    with Taps(network, GRADIENTS.needs(layout)) as taps:
        loss = F.cross_entropy(forward(network, images, environment), labels)
    found = torch.autograd.grad(loss, [*weights, *taps.outputs.values()])
    seen = Measurement(
        layout=layout,
        outputs={name: output.detach() for name, output in taps.outputs.items()},
        normalized=taps.normalized,
        output_gradients=dict(zip(taps.outputs, found[len(weights) :], strict=True)),
        weights=tuple(weight.detach() for weight in weights),
        weight_gradients=tuple(found[: len(weights)]),
        updates=None,
    )
    with torch.no_grad():
        return Readings.read(WEIGHT_PROBES, seen)
