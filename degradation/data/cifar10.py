"""A folder, an archive or the network -> the images of CIFAR-10, read only after their md5 matched.

The folder ``cifar-10-batches-py``, or else the archive ``cifar-10-python.tar.gz``, is looked for in the given data
folder, in ``$DEGRADATION_DATA``, and in the cache of the user. The first place that has either is used: a damaged copy
is an error, never a reason to look further. If no place has one, the archive is downloaded.
"""

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path

import numpy as np
import platformdirs
from filelock import FileLock
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import calculate_md5, download_and_extract_archive, extract_archive

from degradation.data.images import Images, Split, hold_out
from degradation.errors import UserError
from degradation.spec import Cifar10

ENVIRONMENT = "DEGRADATION_DATA"
PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
FOLDER: str = CIFAR10.base_folder
ARCHIVE: str = CIFAR10.filename
LOCK, PARTIAL = ".cifar-10.lock", ".cifar-10-partial"
NETWORK_SECONDS = 30.0  # without an answer for so long, the network counts as absent


class Verified(CIFAR10):  # type: ignore[misc, unused-ignore]
    """torchvision's reader, without its check: ``verify`` has hashed the files, and it would hash all of them twice."""

    def _check_integrity(self) -> bool:
        return True


def load(spec: Cifar10, data_dir: Path | None) -> Images:
    """50,000 training images (less those held out) and 10,000 test images, uint8 (N, size, size, 3).

    Raises UserError, in one line: a given folder does not exist, a file is missing, damaged or not readable,
    or there is no copy and no network to fetch one.
    """
    try:
        place = locate(data_dir)
        whole, test = (Verified(str(place), train=train) for train in (True, False))
    except OSError as error:
        raise UserError(
            f"cannot read or write {error.filename or 'the files of CIFAR-10'}: {error.strerror or error}. Change its "
            f"permissions, or name another folder"
        ) from error
    train, val = hold_out(averaged(_split(whole), spec.size), spec.validation)
    classes, source = tuple(whole.classes), str(place / FOLDER)
    return Images(train=train, val=val, test=averaged(_split(test), spec.size), classes=classes, source=source)


def locate(data_dir: Path | None) -> Path:
    """The place that holds a verified ``cifar-10-batches-py``, after unpacking or downloading it if needed."""
    for place in places(data_dir):
        if (place / FOLDER).exists():
            return verify(place)
        if (place / ARCHIVE).exists():
            return unpack(place)
    return download(_given(data_dir, "the data folder") if data_dir is not None else cache())


def places(data_dir: Path | None) -> Iterator[Path]:
    """The places to look in, in order; UserError at a named place that does not exist."""
    if data_dir is not None:
        yield _given(data_dir, "the data folder")
    if named := os.environ.get(ENVIRONMENT):
        yield _given(Path(named), f"${ENVIRONMENT}:")
    yield cache()


def cache() -> Path:
    """The per-user cache, which need not exist yet."""
    return Path(platformdirs.user_cache_dir("degradation"))


def _given(folder: Path, what: str) -> Path:
    folder = folder.expanduser()
    if not folder.is_dir():
        state = "is not a folder" if folder.exists() else "does not exist"
        raise UserError(f"{what} {folder} {state}: name the folder that holds (or shall hold) {FOLDER}")
    # A user may name the inner folder, of which ours is the parent.
    return folder.absolute().parent if folder.name == FOLDER else folder


def verify(place: Path) -> Path:
    """``place``, if its seven files have the md5 that torchvision publishes; else UserError names the file."""
    advice = f"delete {place / FOLDER} and run again, or put the official files there ({PAGE})"
    files = [*CIFAR10.train_list, *CIFAR10.test_list, (CIFAR10.meta["filename"], CIFAR10.meta["md5"])]
    for name, expected in files:
        _check(place / FOLDER / name, expected, advice)
    return place


def _check(file: Path, expected: str, advice: str) -> None:
    if not file.exists():
        raise UserError(f"{file} is missing (expected md5 {expected}, found no file): {advice}")
    actual = calculate_md5(file)
    if actual != expected:
        raise UserError(f"{file} is damaged (expected md5 {expected}, found {actual}): {advice}")


def unpack(place: Path) -> Path:
    """Unpack the archive in ``place``, whose md5 must match: there, or in the cache if ``place`` is read-only."""
    archive = place / ARCHIVE
    _check(archive, CIFAR10.tgz_md5, f"delete it and run again, or put the official archive there ({PAGE})")
    target = place if os.access(place, os.W_OK) else cache()
    return install(target, lambda partial: extract_archive(str(archive), str(partial)))


def download(target: Path) -> Path:
    """Download the archive and keep its folder in ``target``; UserError explains what to do without a network."""
    try:
        return install(target, _fetch)
    except (OSError, HTTPException, RuntimeError) as error:  # RuntimeError: torchvision's for a wrong md5
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"CIFAR-10 is in no place looked at and could not be downloaded ({reason}): get the python "
            f"version from {PAGE}, put {ARCHIVE} or {FOLDER} into {target}, and run again; the data set "
            f"`digits` needs no download (`degradation run quickstart`)"
        ) from error


def _fetch(partial: Path) -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(NETWORK_SECONDS)  # torchvision sets none, and a silent network would block forever
    try:
        download_and_extract_archive(CIFAR10.url, str(partial), filename=ARCHIVE, md5=CIFAR10.tgz_md5)
    finally:
        socket.setdefaulttimeout(before)


def install(target: Path, fill: Callable[[Path], object]) -> Path:
    """Let ``fill`` make a temporary folder, then move it to ``target`` in one step.

    One process at a time: the next one finds the folder and uses it. A crash leaves nothing that looks complete.
    """
    target.mkdir(parents=True, exist_ok=True)
    with FileLock(target / LOCK):
        if not (target / FOLDER).exists():
            partial = target / PARTIAL
            shutil.rmtree(partial, ignore_errors=True)  # left by a killed process, since the lock is ours
            partial.mkdir()
            try:
                fill(partial)
                (partial / FOLDER).rename(target / FOLDER)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return verify(target)


def averaged(split: Split, size: int) -> Split:
    """The images averaged to ``size`` pixels a side: the mean of each square of pixels, rounded half to even."""
    factor = split.images.shape[1] // size
    if factor == 1:
        return split
    squares = split.images.reshape(len(split.images), size, factor, size, factor, 3)
    means = squares.mean(axis=(2, 4), dtype=np.float32)  # exact: sums of 16 bytes, divided by a power of two
    return Split(images=np.rint(means).astype(np.uint8), labels=split.labels)


def _split(dataset: CIFAR10) -> Split:
    # torchvision returns a transposed view of (N, 3, 32, 32): make it contiguous in the order N, H, W, C.
    return Split(images=np.ascontiguousarray(dataset.data), labels=np.array(dataset.targets, dtype=np.int64))
