"""A data set's spec -> its images; the module of a data set is imported only when it is requested."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

from degradation.data.images import Images
from degradation.errors import UserError
from degradation.spec import Dataset

if TYPE_CHECKING:
    from degradation.data.folder import StreamedImages

AnyImages: TypeAlias = Union[Images, "StreamedImages"]
"""Images in memory, or decoded when they are needed."""


def load_images(dataset: Dataset, data_dir: Path | None) -> AnyImages:
    """The images of the data set, by ``load`` of the module of its name; files are looked for in ``data_dir`` first.

    Raises UserError if files are missing, damaged or not readable.
    """
    images: AnyImages = import_module(f"degradation.data.{dataset.name}").load(dataset, data_dir)
    return images


def resident(images: AnyImages) -> Images:
    """The images, if all of them are in memory; UserError if they are decoded when they are needed."""
    if not isinstance(images, Images):
        raise UserError(f"{images.source}: expected images in memory (CIFAR-10, digits, synthetic), not a folder")
    return images
