"""An image file and its drawn crop -> pixels; a folder -> the mean and principal components of its colours."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray
from PIL import Image

from degradation.data.manifest import Files
from degradation.errors import UserError
from degradation.runtime.environment import cores
from degradation.spec import Folder, digest
from degradation.store import store_at

DRAW = np.dtype(
    [("index", "i8"), ("shorter", "i8"), ("down", "f8"), ("right", "f8"), ("flip", "i8"), ("colour", "f4", 3)]
)
"""The draws for one example: its number, the shorter side to resize it to, the place of the crop as fractions of its
room, whether it is flipped, and what is added to its colours (in units of 0..1)."""
Draws = NDArray[np.void]
Pixels = NDArray[np.uint8]
COLOUR_EXAMPLES = 2000  # the first training images, for the mean colour: so many give it to 0.003


@dataclass(frozen=True, kw_only=True)
class Colours:
    """Mean of each channel, and principal components times their variances, one a row; in units of 0..1."""

    mean: tuple[float, ...]
    components: tuple[tuple[float, ...], ...]


def clean_draws(first: int, last: int, spec: Folder) -> Draws:
    """The draws of an evaluation for examples ``first`` to ``last`` in index order: resized, centre crop."""
    draws = np.zeros(last - first, dtype=DRAW)
    draws["index"], draws["shorter"] = np.arange(first, last), spec.clean_shorter
    draws["down"] = draws["right"] = 0.5
    return draws


def decoded(files: Files, draw: Any, crop: int) -> tuple[Pixels, tuple[int, ...]]:
    """The pixels of a draw (crop, crop, 3), and the values really used: index, shorter side, top, left, flip.

    Raises UserError naming a file that cannot be read as an image.
    """
    path = files.path(int(draw["index"]))
    try:
        with Image.open(path) as image:
            pixels, top, left = cut(image, int(draw["shorter"]), crop, (float(draw["down"]), float(draw["right"])))
    except Exception as error:  # Pillow raises many kinds of errors for bytes that are no image
        why = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{path} cannot be read as an image ({why}): restore it as it was, or mend it and begin another study "
            "with --name NEW"
        ) from error
    flip = int(draw["flip"])
    return pixels[:, ::-1] if flip else pixels, (int(draw["index"]), int(draw["shorter"]), top, left, flip)


def cut(image: Image.Image, shorter: int, crop: int, place: tuple[float, float]) -> tuple[Pixels, int, int]:
    """Resize an image so that its shorter side has ``shorter`` pixels, and crop it: pixels (crop, crop, 3), top, left.

    ``place``: fractions in [0, 1) of the crop's room, from the top and from the left. Bilinear with antialiasing; only
    the crop of the resized image is computed.
    """
    least = min(image.size)
    width, height = (shorter * side // least for side in image.size)
    top, left = int(place[0] * (height - crop + 1)), int(place[1] * (width - crop + 1))
    across, along = image.width / width, image.height / height
    right, bottom = min((left + crop) * across, image.width), min((top + crop) * along, image.height)
    box = (left * across, top * along, right, bottom)
    return np.asarray(coloured(image).resize((crop, crop), Image.Resampling.BILINEAR, box=box)), top, left


def coloured(image: Image.Image) -> Image.Image:
    """The image in three channels of 8 bits. Greys of 16 bits keep their upper 8; Pillow would clip them to white.

    Raises ValueError for 32-bit pixels: their value for white is unknown.
    """
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError("it has 32-bit pixels, whose range is not known: expected 8 or 16 bits")
    return image.convert("RGB")


def colours(files: Files, spec: Folder) -> Colours:
    """Mean and components of the colours of the first training images (centre crops); computed once and cached.

    They are in the cache of the user under the digest of the spec; if it cannot be written they are computed each time.
    """
    cache, name = store_at(Path(platformdirs.user_cache_dir("degradation")) / "colours"), f"{digest(spec)}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        cached = json.loads(cache.read(name))
        return Colours(mean=tuple(cached["mean"]), components=tuple(map(tuple, cached["components"])))
    computed = _colours(files, spec)
    with suppress(UserError):
        cache.write(name, json.dumps(asdict(computed)).encode())
    return computed


def _colours(files: Files, spec: Folder) -> Colours:
    """Compute them from float64 sums, image by image in order, so that the number of threads changes nothing."""
    count, total, products = 0, np.zeros(3), np.zeros((3, 3))
    for pixels in _first(files, spec):
        flat = pixels.reshape(-1, 3).astype(np.float64) / 255
        count, total, products = count + len(flat), total + flat.sum(0), products + flat.T @ flat
    mean = total / count
    variances, vectors = np.linalg.eigh(products / count - np.outer(mean, mean))
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(0), range(3)])  # the sign of a component is free
    components = (vectors * variances.clip(0)).T
    return Colours(mean=tuple(mean.tolist()), components=tuple(map(tuple, components.tolist())))


def _first(files: Files, spec: Folder) -> Iterator[Pixels]:
    draws = clean_draws(0, min(COLOUR_EXAMPLES, len(files)), spec)
    with ThreadPoolExecutor(cores()) as pool:  # Pillow releases Python's lock
        for first in range(0, len(draws), 64):
            yield from pool.map(lambda draw: decoded(files, draw, spec.crop)[0], draws[first : first + 64])
