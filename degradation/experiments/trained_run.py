"""A done run and its weights -> a Subject: networks, trained or at initialization, and the images to use."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from degradation import networks
from degradation.data.batches import Batches, CleanBatches
from degradation.data.images import Images, Split
from degradation.errors import UserError
from degradation.networks.cifar import CifarNetwork
from degradation.runtime.environment import Environment
from degradation.spec import RunSpec


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One finished run, ready for experiments.

    ``images`` are those of its data set; ``weights`` are its final state, batch-norm buffers included, without the mean
    image.
    """

    run: RunSpec
    images: Images
    weights: Mapping[str, Tensor]
    environment: Environment
    snapshots: Mapping[int, Callable[[], Mapping[str, Tensor]]] = field(default_factory=dict)
    """Step -> how to read the weights that the run kept there."""

    def network(self) -> CifarNetwork:
        """A fresh copy with the trained weights, in evaluation mode, on the device, channels last."""
        return self._with(self.weights)

    def network_at(self, step: int) -> CifarNetwork:
        """The same with the weights after ``step`` updates, one of ``snapshots``."""
        return self._with(self.snapshots[step]())

    def _with(self, weights: Mapping[str, Tensor]) -> CifarNetwork:
        network = networks.cifar_for_run(self.run, init_weights=False)
        network.load_state_dict(dict(weights))
        return self._ready(network)

    def initial(self) -> CifarNetwork:
        """The same run's network at initialization, in evaluation mode, on the device, channels last."""
        return self._ready(networks.cifar_for_run(self.run))

    def _ready(self, network: CifarNetwork) -> CifarNetwork:
        return network.to(self.environment.torch_device).to(memory_format=torch.channels_last).eval()

    def batches(self, split: str, examples: int, augmented: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (float32 N, 3, H, W, minus the mean image) and labels, in batches of the training size.

        Clean: the first ``examples`` of the split, in index order, or all if it has fewer. Augmented: the first of the
        run's training, cropped and flipped as there; of the split ``train`` only. The last batch may be smaller. Raises
        UserError if the run has no such split.
        """
        if augmented and split != "train":
            raise UserError(f"only the split train is augmented, not {split}")
        if augmented:
            return self._augmented(examples)
        whole: Split | None = {"train": self.images.train, "val": self.images.val, "test": self.images.test}.get(split)
        if whole is None:
            raise UserError(f"the run has no split {split!r}: expected train, test, or val where images were held out")
        first = Split(images=whole.images[:examples], labels=whole.labels[:examples])
        mean = torch.from_numpy(self.images.mean_image).to(self.environment.torch_device)
        return CleanBatches(first, mean, self.run.recipe.batch)(None)

    def _augmented(self, examples: int) -> Iterator[tuple[Tensor, Tensor]]:
        device, size = self.environment.torch_device, self.run.recipe.batch
        batches = Batches(self.images, self.run.recipe, self.run.seed, device)
        for step, first in enumerate(range(0, examples, size)):
            batches.ready(step)
            images, labels, _ = batches.fill(torch.tensor(step, device=device))
            yield images[: examples - first], labels[: examples - first]
