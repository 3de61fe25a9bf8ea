"""A Folder and the place where it lies -> its files, verified to be those that the spec means, and their colours."""

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
    """The splits of a folder of images, which are decoded as they are needed; the names of its classes by label."""

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
    def fingerprint(self) -> str:
        """The hash of class names, file names and sizes."""
        return self.spec.listing

    @property
    def provenance(self) -> dict[str, str]:
        """Where the images lay, and what decoded them: other versions may round otherwise."""
        return {"data": self.fingerprint, "folder": self.source, "pillow": PIL.__version__}


def load(spec: Folder, path: Path | None) -> StreamedImages:
    """The images of the spec, which lie in the folder at ``path``.

    Raises UserError, in one line: no folder is named, it is not laid out as expected, or it holds other images.
    """
    if path is None:
        raise UserError(UNNAMED)
    found = read(path)
    same(spec, found.fills(spec), found.path)
    train, val = found.splits(spec.validation)
    return StreamedImages(
        spec=spec,
        train=train,
        val=val,
        test=found.test,
        classes=found.classes,
        source=str(found.path.absolute()),
        colours=colours(train, spec),
    )
