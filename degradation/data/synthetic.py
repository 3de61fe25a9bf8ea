"""A seed -> small coloured gratings in 10 classes, for demonstrations: no evidence about natural images.

An image is ``128 + AMPLITUDE * (colour * sin(wave) + noise * normal)``, rounded and clipped to 0..255. The
class is the direction of the wave vector, clockwise from the horizontal: 0, 18, ..., 162 degrees. Phase,
frequency and colour are random. A horizontal flip makes 18 degrees 162, which is another class: a study on these
images sets ``recipe.flip = false``.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from degradation.data.images import Images, Split, hold_out
from degradation.spec import Synthetic

ANGLES = tuple(range(0, 180, 18))  # degrees: 10 classes evenly over the half turn, after which waves repeat
MIDDLE = 128  # mid-grey, in uint8 levels
AMPLITUDE = 32  # levels: 4 amplitudes fit between mid-grey and the ends, so that little is clipped at noise 1
FREQUENCIES = (1 / 8, 1 / 4)  # cycles per pixel: wavelengths of 4 to 8 pixels, 2 to 4 waves across 16 pixels
CHUNK = 1024  # images made at a time, so that memory stays small; does not change the images
STREAMS = {"train": (1000, 1001), "test": (1002, 1003)}  # Philox streams of (gratings, noise); none used elsewhere

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Gratings:
    """One entry an image: wave vector (N, 2) in radians per pixel, phase (N,), colour (N, 3)."""

    waves: Array
    phases: Array
    colours: Array

    def render(self, chunk: slice, size: int) -> Array:
        """The gratings without noise, in amplitudes: float64 (n, size, size, 3)."""
        rows, columns = np.mgrid[:size, :size]
        x, y = self.waves[chunk, :, None, None].swapaxes(0, 1)
        wave = np.sin(x * columns + y * rows + self.phases[chunk, None, None])
        image: Array = wave[..., None] * self.colours[chunk, None, None, :]
        return image


def load(spec: Synthetic, _data_dir: Path | None = None) -> Images:
    """The images of the spec: equal spec, equal bytes. Train and test are drawn from independent streams."""
    train, val = hold_out(_split(spec, "train", spec.examples), spec.validation)
    return Images(
        train=train,
        val=val,
        test=_split(spec, "test", spec.test_examples),
        classes=tuple(f"grating {angle}°" for angle in ANGLES),
        source=f"synthetic gratings, seed {spec.seed}",
    )


def _split(spec: Synthetic, name: str, examples: int) -> Split:
    # Labels are cyclic, so that every prefix (``measure.eval_examples``) is balanced.
    labels = np.arange(examples, dtype=np.int64) % len(ANGLES)
    philox = (np.random.Philox(key=[spec.seed, stream]) for stream in STREAMS[name])
    gratings_stream, noise_stream = map(np.random.Generator, philox)
    gratings = draw(labels, gratings_stream)
    images = np.empty((examples, spec.size, spec.size, 3), dtype=np.uint8)
    for start in range(0, examples, CHUNK):
        chunk = slice(start, min(start + CHUNK, examples))
        signal = gratings.render(chunk, spec.size)
        noisy = signal + spec.noise * noise_stream.standard_normal(signal.shape)
        images[chunk] = np.clip(np.rint(MIDDLE + AMPLITUDE * noisy), 0, 255)
    return Split(images=images, labels=labels)


def draw(labels: NDArray[np.int64], generator: np.random.Generator) -> Gratings:
    """A grating for each label (N,): its angle, with random frequency, phase and colour.

    The colour is a random direction of length sqrt(3): mean square amplitude 1 over the channels.
    """
    examples = len(labels)
    angle = np.deg2rad(np.array(ANGLES)[labels])
    frequency = 2 * np.pi * generator.uniform(*FREQUENCIES, examples)
    phases = generator.uniform(0, 2 * np.pi, examples)
    colours = generator.standard_normal((examples, 3))
    colours *= np.sqrt(3) / np.linalg.norm(colours, axis=1, keepdims=True)
    waves = np.stack([frequency * np.cos(angle), frequency * np.sin(angle)], axis=1)
    return Gratings(waves=waves, phases=phases, colours=colours)
