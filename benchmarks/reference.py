"""What we are compared with: the loop of the most-used public CIFAR ResNet trainers, and the naive probe.

The loop: a DataLoader with torchvision's transforms on PIL images in two worker processes, a network in torch's default
memory format and fp32, `torch.optim.SGD`, and `.item()` of the loss and of the batch's error at each step. The
networks are ours, so that both sides compute the same function.
"""

from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import transforms

from degradation import networks
from degradation.data.images import Images
from degradation.spec import RunSpec

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
WORKERS = 2


class PilImages(Dataset[tuple[Tensor, int]]):
    """The training images as torchvision's CIFAR10 hands them out: PIL, then transforms."""

    def __init__(self, images: Images) -> None:
        self.images, self.labels = images.train.images, images.train.labels
        side = self.images.shape[1]
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(side, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


class Reference:
    """The loop; a call trains ``steps`` steps, its workers loading for these steps and no longer."""

    def __init__(self, run: RunSpec, images: Images, device: torch.device, steps: int) -> None:
        self.device, self.steps = device, steps
        self.network = networks.for_run(run).to(device)
        self.sgd = torch.optim.SGD(self.network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
        self.loss = nn.CrossEntropyLoss()
        data = PilImages(images)
        part = Subset(data, range(min(len(data), steps * run.recipe.batch)))
        self.loader = DataLoader(
            part,
            batch_size=run.recipe.batch,
            shuffle=True,
            num_workers=WORKERS,
            pin_memory=device.type == "cuda",
            persistent_workers=True,
        )

    def __call__(self, look: Callable[[nn.Module], None] | None = None) -> None:
        for images, labels in self.loader:
            images, labels = images.to(self.device), labels.to(self.device)
            logits = self.network(images)
            loss = self.loss(logits, labels)
            self.sgd.zero_grad()
            loss.backward()
            if look is not None:
                look(self.network)
            self.sgd.step()
            loss.item()
            (logits.argmax(1) != labels).float().mean().item()


class NaiveProbe:
    """`.std().item()` of every response in a forward hook, and `.norm().item()` of every gradient in a Python loop."""

    def __init__(self, network: nn.Module, responses: list[str]) -> None:
        self.network = network
        self.modules = [network.get_submodule(name) for name in responses]
        self.seen: list[float] = []

    def __enter__(self) -> "NaiveProbe":
        self.handles = [module.register_forward_hook(self._look) for module in self.modules]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()

    def _look(self, _module: nn.Module, _inputs: object, output: Tensor) -> None:
        self.seen.append(output.std().item())

    def gradients(self, gradients: list[Tensor]) -> None:
        """The norms, one by one."""
        self.seen = [gradient.norm().item() for gradient in gradients]
