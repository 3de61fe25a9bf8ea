"""`python -m benchmarks.recording`: what `degradation.record` adds to a step of torchvision's resnet18."""

import statistics
import time
from collections.abc import Callable

import torch
import torchvision
import typer
from torch.nn import functional as F

import degradation


def main(rounds: int = 7, batch: int = 32, side: int = 32) -> None:
    """Processor time of a step on one thread, without a recording and in one, taken in turns.

    Processor time, so that what else the machine does counts little. The time of a measured step includes beginning
    and ending the recording.
    """
    torch.set_num_threads(1)
    model = torchvision.models.resnet18(num_classes=10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    images, labels = torch.randn(batch, 3, side, side), torch.randint(0, 10, (batch,))

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()

    def seconds(work: Callable[[], None]) -> float:
        started = time.process_time()
        work()
        return time.process_time() - started

    def measured() -> None:
        with degradation.record(model, every=1):
            step()

    step(), measured()
    taken: dict[str, list[float]] = {"no recording": [], "between measured steps": [], "measured step": []}
    for _ in range(rounds):
        taken["no recording"].append(seconds(step))
        taken["measured step"].append(seconds(measured))
        with degradation.record(model, every=3):
            step()
            step()  # completes the measured one by its update, which the time of that one has already
            taken["between measured steps"].append(seconds(step))
    plain = statistics.median(taken["no recording"])
    for name, all_ in taken.items():
        found = statistics.median(all_)
        typer.echo(f"{name:24} {1e3 * found:7.1f} ms {100 * (found / plain - 1):+6.1f} %")


if __name__ == "__main__":
    typer.run(main)
