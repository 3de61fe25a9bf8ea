"""A file of trained weights, ours or public -> its tensors by name, without executing anything in it."""

import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from degradation.errors import UserError
from degradation.networks.wrappers import Unwrapped, unwrapped
from degradation.spec.validation import no_file

MEAN_IMAGE = "mean_image"
LONGEST = 100  # most characters shown of a name
DEEPEST = 8  # dicts within dicts; a dict may contain itself
SAVED_BY_TORCH = (b"PK\x03\x04", b"\x80")  # first bytes of its files: a zip archive since torch 1.6, a pickle before
SAVE = "save model.state_dict() by torch.save, or as safetensors"
PASSED_OVER = ("argparse.Namespace", "numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
"""Objects that training scripts save with the tensors: options, and errors or losses as numpy's scalars."""
KINDS = (
    (rb"PK[\x03\x05]", "a zip archive that torch did not save"),
    (rb"\x93NUMPY", "an array of NumPy"),
    (rb"\x89HDF", "HDF5, as Keras writes it"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ", "compressed"),
    (rb"[\x03\x04]\0\0\0", "of Lua Torch"),
    (rb"version https://git-lfs", "a pointer of Git LFS, not the file itself"),
    (rb"\s*<(!DOCTYPE|html|\?xml)", "a web page"),
    (rb".{257}ustar", "a tar archive, as torch wrote it before version 0.1.12"),
)
"""First bytes of a file that is neither safetensors nor torch's -> its kind."""
ZIPPED = (
    (r".*\.npy", "an archive of NumPy arrays (.npz)"),
    (r".*(^|/)(constants\.pkl|code/.*)", "TorchScript or an exported program, which would have to be executed"),
    (r"model\.weights\.h5", "a model of Keras"),
)
"""The name of a file in a zip archive -> the kind of the archive."""
INSTEAD = {"a directory": ": name the file in it", "a pipe": ": write what comes out of it to a file first"}
"""Kind of a path that is no file -> what to do. It is not opened: reading may never start, or never end."""


@dataclass(frozen=True, kw_only=True)
class Weights(Unwrapped):
    """Contents of a file: the tensors of its network, in the order of the file.

    For our own files also the mean image (H, W, 3), the step, and the fields of the run.
    """

    file: Path
    sorted: bool = False
    """Whether the order is that of the names, the only one that safetensors keeps."""
    step: int = 0
    mean_image: Tensor | None = None
    run: Mapping[str, Any] = field(default_factory=dict)

    def own(self, name: str) -> str:
        """The name of a tensor in the file, for display."""
        return shown(self.prefix + name)


def shown(text: str) -> str:
    """Text of an untrusted file, in one line without control characters, cut if it is long."""
    line = text if text.isprintable() else ascii(text)[1:-1]
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."


def read_weights(file: Path) -> Weights:
    """Read safetensors, or a state dict saved by torch, from which only tensors are unpickled.

    A state dict may be nested, and saved together with numbers, texts, an ``argparse.Namespace`` and numpy's scalars,
    which are ignored. Raises UserError if the file cannot be read or holds no tensors.
    """
    head = _head(file)
    if head[8:9] == b"{":
        return _read_safetensors(file)
    if kind := _other_kind(file, head):
        raise UserError(f"cannot read {file} as weights: it is {kind}: {SAVE}")
    if not head.startswith(SAVED_BY_TORCH):
        raise UserError(f"cannot read {file} as weights: it is neither safetensors nor a file that torch saved")
    return _weights(file, dict(_flat(_unpickled(file), set())))


def _head(file: Path) -> bytes:
    """The first bytes of a file. UserError if it is no file, is empty, or cannot be read."""
    try:
        status = file.stat()
        if kind := no_file(status.st_mode):
            raise UserError(f"{file} is {kind}, not a file of weights{INSTEAD.get(kind, '')}")
        if not status.st_size:  # also for files of /proc, some of which block forever
            raise UserError(f"{file} is empty: expected a file of trained weights")
        with file.open("rb") as opened:
            return opened.read(512)
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror or error}: name a file of trained weights") from error


def _other_kind(file: Path, head: bytes) -> str:
    """The kind of a file that is neither safetensors nor a state dict of torch; empty if it may be one."""
    if not zipfile.is_zipfile(file):
        torch_s = head.startswith(SAVED_BY_TORCH)
        return "" if torch_s else next((kind for start, kind in KINDS if re.match(start, head, re.DOTALL)), "")
    try:
        with zipfile.ZipFile(file) as archive:
            inside = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return ""  # torch will report why it cannot be read
    for pattern, kind in ZIPPED:
        if any(re.fullmatch(pattern, name) for name in inside):
            return kind
    return "" if any(name.endswith("data.pkl") for name in inside) else KINDS[0][1]


def _read_safetensors(file: Path) -> Weights:
    try:
        with safe_open(str(file), framework="pt") as opened:
            names = sorted(opened.keys(), key=_by_number)
            tensors = {name: opened.get_tensor(name) for name in names}
            metadata = opened.metadata() or {}
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        why = shown(str(error).split("\n")[0])
        raise UserError(f"cannot read {file} as safetensors ({why}): it is damaged or cut short") from error
    mean_image = tensors.pop(MEAN_IMAGE, None)
    if mean_image is not None and not (mean_image.is_floating_point() and mean_image.float().isfinite().all()):
        raise UserError(f"{file}: {MEAN_IMAGE} is expected to hold finite real numbers: was the file damaged?")
    return _weights(file, tensors, sorted=True, mean_image=mean_image, **_facts(metadata))


def _by_number(name: str) -> list[tuple[int, str]]:
    """Sort key that puts layer 10 after layer 9."""
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in re.split(r"([0-9]+)", name)]


def _facts(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The step and the run in the metadata of our own files; empty for any other."""
    try:
        facts = json.loads(metadata["degradation"])
        step, run = int(facts["step"]), dict(facts["run"])
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        return {}
    return {"step": step, "run": run} if 0 <= step < 2**63 else {}


class Placeholder:
    """Placeholder of an object saved with the tensors; takes any arguments, and keeps nothing."""

    def __new__(cls, *_made_of: object) -> "Placeholder":
        return super().__new__(cls)

    def __setstate__(self, _state: object) -> None:
        pass


def _unpickled(file: Path) -> Any:
    try:
        with torch.serialization.safe_globals([(Placeholder, name) for name in PASSED_OVER]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols and of sparse layouts
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if re.search(r"Unsupported operand \d+", str(error)):
            raise UserError(f"{file} is a pickle of another protocol than torch's own (2 or 3): {SAVE}") from error
        match = re.search(r"GLOBAL (\S+)", str(error))
        named = f" ({shown(match[1])})" if match else ""
        raise UserError(
            f"{file} is no state dict, or holds objects besides tensors{named}, which are never unpickled: "
            "save model.state_dict() alone, or as safetensors"
        ) from error
    except Exception as error:  # torch may raise anything on untrusted bytes
        why = re.split(r"\.\s|\n", str(error))[0].rstrip(".:") or "it ends too early"  # without torch's advice
        raise UserError(f"cannot read {file} as weights ({shown(why)}): it is damaged or cut short") from error


def _flat(loaded: Any, visited: set[int], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a dict and of the dicts in it, by the path of their keys; each dict is visited once."""
    if not isinstance(loaded, Mapping) or id(loaded) in visited or depth > DEEPEST:
        return
    visited.add(id(loaded))
    for key, value in loaded.items():
        if isinstance(key, str) and isinstance(value, Tensor):
            yield prefix + key, value
        elif isinstance(key, str):
            yield from _flat(value, visited, f"{prefix}{key}.", depth + 1)


def _weights(file: Path, tensors: Mapping[str, Tensor], **fields: Any) -> Weights:
    """The weights of the network in a file. UserError if there are no tensors."""
    for name, tensor in tensors.items():
        if tensor.is_nested:
            raise UserError(f"{file}: {shown(name)} is a nested tensor, expected one of a shape: {SAVE}")
    network = unwrapped(tensors)
    if not network.tensors:
        raise UserError(f"{file} holds no tensors by name: expected a state dict, alone or within another dict")
    if colours := [name for name in network.outside if tensors[name].numel() == 3]:
        raise UserError(
            f"{file}: {shown(colours[0])} looks like a part of a normalization: expected mean and std, three each"
        )
    return Weights(file=file, **vars(network), **fields)
