"""Small folders of images that the tests share: noisy gratings of differing sizes and kinds of file."""

from pathlib import Path

import numpy as np
from PIL import Image

from degradation.data.folder import StreamedImages, load
from degradation.data.manifest import listed
from degradation.spec import Folder, Measure, Recipe, RunSpec

CLASSES = ("ant", "bee", "cat")
SMALL = Folder(crop=16, shorter=(18, 28), clean_shorter=18)


def picture(rng: np.random.Generator, label: int) -> Image.Image:
    height, width = rng.integers(17, 41, 2)
    rows, columns = np.mgrid[:height, :width]
    wave = np.sin((columns, rows, rows + columns)[label % 3] / 3 + 6 * rng.random())
    noise = rng.normal(0, 10, (height, width, 3))
    return Image.fromarray((128 + 60 * wave[..., None] * rng.random(3) + noise).clip(0, 255).astype(np.uint8))


def make(root: Path, *, train: int = 12, val: int = 5, classes: tuple[str, ...] = CLASSES, held: str = "val") -> Path:
    """A folder of ``train`` and ``val`` images a class: JPEG and PNG in turn, one grey, one with a palette."""
    rng = np.random.default_rng(0)
    for part, number in (("train", train), (held, val)):
        for label, name in enumerate(classes):
            (root / part / name).mkdir(parents=True)
            for each in range(number):
                image = picture(rng, label)
                kind = {0: "L", 1: "P"}.get(each, "RGB")
                image.convert(kind).save(root / part / name / f"{each}.{'png' if each % 2 or not each else 'JPG'}")
    return root


def images(root: Path, spec: Folder = SMALL) -> StreamedImages:
    return load(listed(spec, root), root)


def run_spec(dataset: Folder, network: str = "residual", *, steps: int = 6, family: str = "cifar") -> RunSpec:
    """A run that takes seconds; it walks 36 images in batches of 8, so across the end of an epoch."""
    return RunSpec(
        dataset=dataset,
        family=family,
        network=network,
        depth=8 if family == "cifar" else 18,
        shortcut="none" if network == "plain" else "A",
        seed=0,
        recipe=Recipe(steps=steps, batch=8, padding=0, colour=0.1),
        measure=Measure(eval_every=3),
    )
