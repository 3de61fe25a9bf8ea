"""`python -m benchmarks.loader`: images a second that the loader of a folder decodes, beside torchvision's own way."""

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import closing
from itertools import count
from pathlib import Path

import numpy as np
import torch
import typer
from PIL import Image, ImageFilter
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import Compose, Lambda, PILToTensor, RandomCrop, RandomHorizontalFlip, functional

from degradation.data.folder import load
from degradation.data.manifest import listed
from degradation.data.streaming import StreamedBatches
from degradation.spec import Folder, Recipe

SIDES = (500, 375)  # the mean of ImageNet's images is near them
CPU = torch.device("cpu")


def photographs(root: Path, number_of: int) -> None:
    """JPEGs of smoothed noise in two classes, of about 110 kB each, as ImageNet's have."""
    rng = np.random.default_rng(0)
    for number in range(number_of):
        folder = root / ("train", "val")[number % 2] / f"class {number // 2 % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        noise = Image.fromarray(rng.integers(0, 256, (*SIDES[::-1], 3), dtype=np.uint8))
        noise.filter(ImageFilter.GaussianBlur(0.6)).save(folder / f"{number}.jpg", quality=85)


def resized(image: Image.Image) -> Image.Image:
    """The scale augmentation of section 3.4, of the whole image."""
    return functional.resize(image, random.randint(256, 480))


def torchvisions(root: Path, batch: int, workers: int) -> Generator[torch.Tensor, None, None]:
    """Batches of the same augmentation by torchvision's data set and transforms, without end."""
    way = Compose([Lambda(resized), RandomCrop(224), RandomHorizontalFlip(), PILToTensor()])
    images = ImageFolder(root / "train", transform=way)
    while True:
        yield from (pixels for pixels, _ in DataLoader(images, batch, shuffle=True, num_workers=workers))


def ours(root: Path, batch: int, workers: int) -> Generator[torch.Tensor, None, None]:
    """Our batches, as uint8 in the buffers of the step, without end."""
    images = load(listed(Folder(), root), root)
    source = StreamedBatches(images, Recipe(batch=batch, colour=0.1), 0, CPU, workers)
    try:
        for step in count():
            source.ready(step)
            yield source._batch.images
    finally:
        source.close()


def seconds(batches: Generator[torch.Tensor, None, None], clock: Callable[[], float], turns: int) -> list[float]:
    """Seconds of each of ``turns`` batches, behind a first one that is not counted."""
    found = []
    with closing(batches):  # and so its workers
        next(batches)
        for _ in range(turns):
            started = clock()
            next(batches)
            found.append(clock() - started)
    return found


def main(images: int = 256, batch: int = 64, turns: int = 7) -> None:
    """Processor time of an image in this process, then images a second by the number of workers."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        photographs(root, images)
        sizes = [path.stat().st_size for path in root.rglob("*.jpg")]
        print(f"{images} JPEGs of {SIDES[0]}x{SIDES[1]}, {statistics.mean(sizes) / 1000:.0f} kB each; batch {batch}")
        for name, way in {"torchvision": torchvisions, "ours": ours}.items():
            each = statistics.median(seconds(way(root, batch, 0), time.process_time, turns)) / batch
            print(f"{name}: {1000 * each:.2f} ms of processor time an image, {1 / each:.0f} images/s a core")
            for workers in (1, 2):
                walls = seconds(way(root, batch, workers), time.perf_counter, 2 * turns)
                print(f"{name}, {workers} workers: {batch * len(walls) / sum(walls):.0f} images/s")


if __name__ == "__main__":
    typer.run(main)
