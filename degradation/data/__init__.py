"""A data set's spec -> its images; what a data set needs is imported only when it is asked for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from degradation.data.images import Images
from degradation.spec import Cifar10, Dataset, Frozen, Synthetic


def _cifar10(spec: Cifar10, data_dir: Path | None) -> Images:
    from degradation.data import cifar10

    return cifar10.load(spec, data_dir)


def _synthetic(spec: Synthetic, data_dir: Path | None) -> Images:
    from degradation.data import synthetic

    return synthetic.make(spec)


LOADERS: dict[type[Frozen], Callable[[Any, Path | None], Images]] = {
    Cifar10: _cifar10,
    Synthetic: _synthetic,
}


def load_images(dataset: Dataset, data_dir: Path | None) -> Images:
    """The images of the data set, looked for in ``data_dir`` first where it is read from files.

    Raises UseError where files are missing, damaged or not readable.
    """
    return LOADERS[type(dataset)](dataset, data_dir)
