"""The file of handwritten digits next to this module -> images, a fixed 1,500 to train on and 297 to test.

The images are the test set of "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak 1998, UCI Machine
Learning Repository, https://doi.org/10.24432/C50P49, CC BY 4.0), in the file that scikit-learn distributes. The licence
is next to it in ``digits-licence.txt``.
"""

import gzip
import hashlib
from importlib.resources import files
from pathlib import Path

import numpy as np

from degradation.data.images import Images, Split, hold_out
from degradation.errors import DamagedError
from degradation.spec import Digits

FILE = "digits.csv.gz"  # 1,797 lines: 64 grey levels by row, then the digit
SHA256 = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"
SIDE, WHITE = 8, 16  # pixels of a side; the greatest grey level


def load(spec: Digits, _data_dir: Path | None = None) -> Images:
    """1,500 training images (less those held out) and 297 test images, uint8 (N, 8, 8, 3), three equal channels.

    Raises DamagedError if the file is not the published one.
    """
    whole, test = hold_out(_read(), spec.test_examples)
    assert test is not None
    train, val = hold_out(whole, spec.validation)
    classes = tuple(map(str, range(10)))
    return Images(train=train, val=val, test=test, classes=classes, source="handwritten digits (UCI, scikit-learn)")


def _read() -> Split:
    packed = files("degradation.data").joinpath(FILE).read_bytes()
    if (actual := hashlib.sha256(packed).hexdigest()) != SHA256:
        raise DamagedError(f"{FILE} of the package is damaged (SHA-256 {actual}): install the package again")
    table = np.loadtxt(gzip.decompress(packed).decode().splitlines(), delimiter=",", dtype=np.int64)
    grey = np.rint(table[:, :-1] * (255 / WHITE)).astype(np.uint8).reshape(-1, SIDE, SIDE, 1)
    return Split(images=np.repeat(grey, 3, axis=3), labels=np.ascontiguousarray(table[:, -1]))
