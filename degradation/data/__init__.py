"""A data set's spec -> its images; what a data set needs is imported only when it is requested."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from degradation.data.images import Images
from degradation.errors import UserError
from degradation.spec import Cifar10, Dataset, Digits, Folder, Frozen, Synthetic

if TYPE_CHECKING:
    from degradation.data.folder import StreamedImages

AnyImages: TypeAlias = Union[Images, "StreamedImages"]
"""Images that lie in memory, or are decoded as they are needed."""


def _cifar10(spec: Cifar10, data_dir: Path | None) -> Images:
    from degradation.data import cifar10

    return cifar10.load(spec, data_dir)


def _digits(spec: Digits, data_dir: Path | None) -> Images:
    from degradation.data import digits

    return digits.load(spec)


def _synthetic(spec: Synthetic, data_dir: Path | None) -> Images:
    from degradation.data import synthetic

    return synthetic.make(spec)


def _folder(spec: Folder, path: Path | None) -> "StreamedImages":
    from degradation.data import folder

    return folder.load(spec, path)


LOADERS: dict[type[Frozen], Callable[[Any, Path | None], AnyImages]] = {
    Cifar10: _cifar10,
    Digits: _digits,
    Folder: _folder,
    Synthetic: _synthetic,
}


def load_images(dataset: Dataset, data_dir: Path | None) -> AnyImages:
    """The images of the data set, looked for in ``data_dir`` first where it is read from files.

    Raises UserError if files are missing, damaged or not readable.
    """
    return LOADERS[type(dataset)](dataset, data_dir)


def resident(images: AnyImages) -> Images:
    """The images, for what needs all of them in memory; UserError if they are decoded as they are needed."""
    if not isinstance(images, Images):
        raise UserError(f"{images.source}: expected images in memory (CIFAR-10, digits, synthetic), not a folder")
    return images
