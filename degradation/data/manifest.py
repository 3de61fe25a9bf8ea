"""A folder of images -> its classes and files by number, and the Folder that identifies it."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from degradation.data.images import held_out
from degradation.errors import UserError
from degradation.spec import Folder

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Extensions of files that count as images, as in torchvision's ImageFolder, in upper or lower case."""
TRAIN, HELD_OUT = "train", ("val", "valid", "test")
MIX_KEY = 224  # Philox key of the one order in which files are numbered; fixed forever
DIGITS = 16
NAMED = 3  # most names in an error
LEFT_BEHIND = ("@eaDir", "__MACOSX", "__pycache__", "lost+found", "Thumbs.db")
"""Names that file servers, archives and programs add to folders."""
UNNAMED = "the images of this study lie in a folder: name it with --dataset folder:PATH"
LAYOUT = "expected PATH/train/CLASS/*.jpg and PATH/val/CLASS/*.jpg (or valid, or test in place of val)"


@dataclass(frozen=True, kw_only=True, eq=False)
class Files:
    """Image files by number, with their labels (N,); their names are in one block of bytes.

    A million Python strings would be copied into every worker process, since reference counts are written to them.
    """

    root: Path
    names: NDArray[np.uint8]
    ends: NDArray[np.int64]
    labels: NDArray[np.int64]
    which: NDArray[np.int64]
    """The place of each file among ``names``."""

    def __len__(self) -> int:
        return len(self.which)

    def path(self, number: int) -> Path:
        """The path of file ``number``."""
        place = int(self.which[number])
        first = int(self.ends[place - 1]) if place else 0
        return self.root / os.fsdecode(self.names[first : int(self.ends[place])].tobytes())

    def take(self, numbers: NDArray[np.intp]) -> "Files":
        """The files with these numbers, in their order."""
        return replace(self, labels=self.labels[numbers], which=self.which[numbers])


@dataclass(frozen=True, kw_only=True, eq=False)
class Listing:
    """Contents of a folder; the files of each part are numbered in one mixed order, the same for all seeds."""

    path: Path
    classes: tuple[str, ...]
    train: Files
    test: Files
    digest: str
    skipped: tuple[str, ...] = ()
    """Hidden files and folders, and those of ``LEFT_BEHIND``, below the folder."""

    def fills(self, spec: Folder) -> Folder:
        """The spec with this folder's contents. UserError if validation leaves no training images."""
        fields = {"classes": len(self.classes), "examples": len(self.train), "test_examples": len(self.test)}
        if spec.validation >= len(self.train):
            raise UserError(
                f"dataset.validation: {self.path} has {len(self.train):,} training images, of which "
                f"{spec.validation:,} cannot be held out: lower it"
            )
        return Folder.model_validate(spec.model_dump() | fields | {"listing": self.digest})

    def splits(self, validation: int) -> tuple[Files, Files | None]:
        """The files to train on, and those held out for validation; None for 0."""
        if not validation:
            return self.train, None
        mask = held_out(len(self.train), validation)
        return self.train.take(np.flatnonzero(~mask)), self.train.take(np.flatnonzero(mask))


def listed(spec: Folder, path: Path, say: Callable[[str], None] = lambda line: None) -> Folder:
    """The spec with the contents of the folder at ``path``; ``say`` gets one line about skipped files.

    Raises UserError, in one line, if it is not laid out as expected.
    """
    listing = read(path)
    if listing.skipped:
        say(f"{path}: hidden files and folders are skipped: {_named(listing.skipped)}")
    return listing.fills(spec)


def same(expected: Folder, found: Folder, path: Path) -> None:
    """UserError if a folder does not hold the images that a study was started with."""
    if found.listing != expected.listing:
        raise UserError(
            f"{path} is not the folder that the study was begun with: expected {_shown(expected)}, found "
            f"{_shown(found)}: put it back, or take --name NEW for another study"
        )


def _shown(spec: Folder) -> str:
    return (
        f"{spec.examples:,} training and {spec.test_examples:,} held-out images in {spec.classes:,} classes "
        f"(listing {spec.listing})"
    )


def read(path: Path) -> Listing:
    """Read the directories of a folder; no image is opened.

    Raises UserError, in one line, with the expected and the actual contents.
    """
    try:
        return _read(path.expanduser())
    except OSError as error:
        raise UserError(
            f"cannot read {error.filename or path}: {error.strerror or error}: change its permissions"
        ) from error


def _read(path: Path) -> Listing:
    if not path.is_dir():
        raise UserError(f"{path} {'is not a folder' if path.exists() else 'does not exist'}: {LAYOUT}")
    names = sorted(entry.name for entry in os.scandir(path))
    held_out_name = next((name for name in HELD_OUT if (path / name).is_dir()), None)
    if not (path / TRAIN).is_dir() or held_out_name is None:
        raise UserError(f"{path}: {LAYOUT}, found {_named(names)}")
    classes = _classes(path / TRAIN)
    _same_classes(path / held_out_name, classes)
    sha = hashlib.sha256()
    parts = (TRAIN, held_out_name)
    skipped = [f"{part}/{each.name}" for part in parts for each in os.scandir(path / part) if _left_behind(each.name)]
    train, test = (_files(path / part, classes, sha, skipped) for part in parts)
    digest = sha.hexdigest()[:DIGITS]
    return Listing(path=path, classes=classes, train=train, test=test, digest=digest, skipped=tuple(sorted(skipped)))


def _left_behind(name: str) -> bool:
    """Whether a file or folder is not the user's: hidden, or made by a program for itself."""
    return name.startswith(".") or name in LEFT_BEHIND


def _classes(part: Path) -> tuple[str, ...]:
    """The names of the class folders of a part, sorted: two at least."""
    entries = list(os.scandir(part))
    classes = _class_folders(entries)
    if len(classes) < 2:
        loose = f" and {len(entries) - len(classes):,} files outside of any" if len(entries) > len(classes) else ""
        raise UserError(f"{part}: expected two class folders at least, found {_named(classes)}{loose}: {LAYOUT}")
    return classes


def _class_folders(entries: Iterable["os.DirEntry[str]"]) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in entries if entry.is_dir() and not _left_behind(entry.name)))


def _same_classes(part: Path, classes: Sequence[str]) -> None:
    actual = set(_class_folders(os.scandir(part)))
    missing, unknown = sorted(set(classes) - actual), sorted(actual - set(classes))
    if missing or unknown:
        differences = [f"lacks {_named(missing)}"] if missing else []
        differences += [f"also has {_named(unknown)}"] if unknown else []
        raise UserError(f"{part}: expected the {len(classes)} classes of {TRAIN}; it {' and '.join(differences)}")


def _files(part: Path, classes: Sequence[str], sha: "hashlib._Hash", skipped: list[str]) -> Files:
    """The images of a part, in mixed order; names and sizes enter the hash in sorted order; adds to ``skipped``."""
    images, counts = list[tuple[bytes, int]](), list[int]()
    for name in classes:
        of_class = sorted(_images(part / name, f"{part.name}/{name}", skipped))
        if not of_class:
            raise UserError(f"{part / name}: expected images ({', '.join(EXTENSIONS)}), found none")
        images += of_class
        counts.append(len(of_class))
    # The part's own name is not hashed: val is as good as test.
    skip = len(os.fsencode(part.name)) + 1
    sha.update(f"{len(images)}\0".encode())
    for path, size in images:
        sha.update(path[skip:] + b"\0%d\0" % size)
    order = np.random.Generator(np.random.Philox(key=MIX_KEY)).permutation(len(images))
    return Files(
        root=part.parent,
        names=np.frombuffer(b"".join(path for path, _ in images), dtype=np.uint8),
        ends=np.cumsum([len(path) for path, _ in images], dtype=np.int64),
        labels=np.repeat(np.arange(len(classes), dtype=np.int64), counts)[order],
        which=order.astype(np.int64),
    )


def _images(folder: Path, name: str, skipped: list[str]) -> Iterator[tuple[bytes, int]]:
    """Path below the root and size in bytes of every image in a class folder and its subfolders."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if _left_behind(entry.name):
                skipped.append(f"{name}/{entry.name}")
            elif entry.is_dir():
                yield from _images(Path(entry.path), f"{name}/{entry.name}", skipped)
            elif entry.name.lower().endswith(EXTENSIONS):
                size = _size(entry)
                if not size:
                    raise UserError(f"{entry.path} is empty (0 bytes): expected an image; restore it, or take it away")
                yield os.fsencode(f"{name}/{entry.name}"), size


def _size(entry: "os.DirEntry[str]") -> int:
    try:
        return entry.stat().st_size
    except FileNotFoundError:
        raise UserError(
            f"{entry.path} is a link to {Path(entry.path).readlink()}, which does not exist: restore that, or take the "
            f"link away"
        ) from None


def _named(names: Iterable[str]) -> str:
    """``a, b, c and 4 more``; ``nothing`` for none."""
    names = list(names)
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more if names else "nothing"
