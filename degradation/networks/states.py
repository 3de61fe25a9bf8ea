"""A file of trained weights, ours or that of a public CIFAR ResNet -> the state of one of our networks."""

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import Module

from degradation.errors import UseError

NESTS = ("state_dict", "model_state_dict", "model", "net", "network")
PREFIXES = ("module.", "model.", "_orig_mod.")
RENAMED = {"linear": "fc", "shortcut": "downsample"}
"""Words of the public implementations -> ours."""
MEAN_IMAGE, COUNTER = "mean_image", "num_batches_tracked"
LISTED = 8  # tensors that do not fit, named in an error


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What a file holds: tensors by our names, the step where it says so, the mean image (H, W, 3) in files of ours."""

    file: Path
    tensors: Mapping[str, Tensor]
    step: int = 0
    mean_image: Tensor | None = None


def read_weights(file: Path) -> Weights:
    """Read safetensors, or a state dict saved by torch, of which nothing but tensors is unpickled.

    Prefixes of wrappers are cut, ``linear`` is our ``fc``, ``shortcut`` our ``downsample``; a state dict may be nested.
    Raises UseError where the file cannot be read or holds no tensors.
    """
    try:
        with file.open("rb") as opened:
            is_safetensors = opened.read(9)[8:] == b"{"
    except OSError as error:
        raise UseError(f"cannot read {file}: {error.strerror or error}: name a file of trained weights") from error
    if is_safetensors:
        return _read_safetensors(file)
    return Weights(file=file, tensors=_renamed(_state(_unpickled(file), file)))


def _read_safetensors(file: Path) -> Weights:
    try:
        with safe_open(str(file), framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            metadata = opened.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise UseError(f"cannot read {file} as safetensors ({error}): it is damaged or cut short") from error
    mean_image = tensors.pop(MEAN_IMAGE, None)
    return Weights(file=file, tensors=_renamed(tensors), step=_step(metadata), mean_image=mean_image)


def _step(metadata: Mapping[str, str]) -> int:
    """The step that a file of ours says; 0 in any other."""
    try:
        return int(json.loads(metadata["degradation"])["step"])
    except (KeyError, TypeError, ValueError):
        return 0


def _unpickled(file: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UseError(
            f"{file} is no state dict, or holds objects besides tensors, which are never unpickled: "
            "save model.state_dict() alone, or as safetensors"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise UseError(f"cannot read {file} as weights ({why}): it is damaged or of another kind") from error


def _state(loaded: Any, file: Path) -> dict[str, Tensor]:
    """The tensors of a state dict, at the top or nested under one of the usual keys."""
    while isinstance(loaded, Mapping):
        nest = next((key for key in NESTS if isinstance(loaded.get(key), Mapping)), None)
        if nest is None:
            break
        loaded = loaded[nest]
    found = loaded if isinstance(loaded, Mapping) else {}
    tensors = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UseError(f"{file} holds no tensors by name: expected a state dict, alone or under {', '.join(NESTS)}")
    return tensors


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return {".".join(RENAMED.get(piece, piece) for piece in name.split(".")): t for name, t in tensors.items()}


@torch.no_grad()
def fill(network: Module, weights: Weights, what: str) -> None:
    """Put the weights into the network, ``what`` in words.

    Raises UseError, and changes nothing, where any tensor is missing, unknown or of another shape; it lists them. The
    counters of batches that batch norm keeps may be missing: nothing here reads them.
    """
    state = network.state_dict()
    given = weights.tensors
    wrong = [
        f"{name} is {_shape(given[name])}, expected {_shape(tensor)}"
        for name, tensor in state.items()
        if name in given and given[name].shape != tensor.shape
    ]
    wrong += [f"{n} {_shape(t)} is missing" for n, t in state.items() if n not in given and not n.endswith(COUNTER)]
    wrong += [f"{name} {_shape(tensor)} is unknown" for name, tensor in given.items() if name not in state]
    if wrong:
        rest = f"; and {len(wrong) - LISTED} more" if len(wrong) > LISTED else ""
        raise UseError(f"{weights.file} does not fit {what}: {'; '.join(wrong[:LISTED])}{rest}")
    for name, tensor in given.items():
        state[name].copy_(tensor)


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
