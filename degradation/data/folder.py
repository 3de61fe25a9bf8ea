"""A Folder and its path -> its files, verified to be those of the spec, and their colours."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray

from degradation.data.decoding import Colours, colours
from degradation.data.manifest import UNNAMED, Files, read, same
from degradation.errors import UserError
from degradation.spec import Folder


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamedImages:
    """The splits of a folder of images, decoded when they are needed; the names of its classes by label."""

    spec: Folder
    train: Files
    val: Files | None
    test: Files
    classes: tuple[str, ...]
    source: str
    colours: Colours

    @property
    def mean_image(self) -> NDArray[np.float32]:
        """The mean colour of training images, in units of 0..1: float32 (1, 1, 3), the same at every pixel."""
        return np.array(self.colours.mean, dtype=np.float32).reshape(1, 1, 3)

    @property
    def provenance(self) -> dict[str, str]:
        """Hash and path of the folder, and the version of Pillow: another may round differently."""
        return {"data": self.spec.listing, "folder": self.source, "pillow": PIL.__version__}


def load(spec: Folder, path: Path | None) -> StreamedImages:
    """The images of the spec, in the folder at ``path``.

    Raises UserError, in one line: no folder is named, it is not laid out as expected, or it holds other images.
    """
    if path is None:
        raise UserError(UNNAMED)
    listing = read(path)
    same(spec, listing.fills(spec), listing.path)
    train, val = listing.splits(spec.validation)
    return StreamedImages(
        spec=spec,
        train=train,
        val=val,
        test=listing.test,
        classes=listing.classes,
        source=str(listing.path.absolute()),
        colours=colours(train, spec),
    )
