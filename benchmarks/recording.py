"""`python -m benchmarks.recording`: what `degradation.record` adds to a step of torchvision's resnet18."""

import torch
import torchvision
import typer
from torch.nn import functional as F

import degradation
from benchmarks.timing import alternate


def main(rounds: int = 5, batch: int = 32, side: int = 32, threads: int = 1, device: str = "cpu") -> None:
    """Milliseconds of a step without it, of a step between measured ones, and of a measured one, taken in turns."""
    torch.set_num_threads(threads)
    place = torch.device(device)
    model = torchvision.models.resnet18(num_classes=10).to(place)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    images, labels = torch.randn(batch, 3, side, side, device=place), torch.randint(0, 10, (batch,), device=place)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()

    def one(every: int, steps: int) -> None:
        with degradation.record(model, every=every):
            for _ in range(steps):
                step()

    works = {"none": step, "measured": lambda: one(1, 1), "every 10": lambda: one(10, 10)}
    found = alternate(works, rounds, place)
    plain = found["none"].median
    for name, steps in (("none", 1), ("measured", 1), ("every 10", 10)):
        each = found[name].median / steps
        typer.echo(f"{name:10} {1e3 * each:8.1f} ms a step, {100 * (each / plain - 1):+.0f} %")


if __name__ == "__main__":
    typer.run(main)
