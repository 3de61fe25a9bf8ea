"""A file of trained weights, ours or that of a public CIFAR ResNet -> the state of one of our networks."""

import json
import pickle
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
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
LISTED = 4  # tensors that do not fit, named in an error
SAVED_BY_TORCH = (b"PK", b"\x80")  # how its files begin: a zip archive since torch 1.6, a pickle before
PASSED_OVER = ("argparse.Namespace", "numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
"""What training scripts save beside the tensors: their options, and errors or losses as numpy's scalars."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What a file holds: tensors by our names, and which name each has there.

    Of files of ours also the mean image (H, W, 3), the step, and the fields of the run.
    """

    file: Path
    tensors: Mapping[str, Tensor]
    names: Mapping[str, str]
    """Our name of a tensor -> the file's own."""
    step: int = 0
    mean_image: Tensor | None = None
    run: Mapping[str, Any] = field(default_factory=dict)


def read_weights(file: Path) -> Weights:
    """Read safetensors, or a state dict saved by torch, of which nothing but tensors is unpickled.

    Prefixes of wrappers are cut, ``linear`` is our ``fc``, ``shortcut`` our ``downsample``; a state dict may be nested,
    and beside it may stand numbers, texts, an ``argparse.Namespace`` and numpy's scalars, which are passed over.
    Raises UseError where the file cannot be read or holds no tensors.
    """
    try:
        with file.open("rb") as opened:
            head = opened.read(9)
    except OSError as error:
        raise UseError(f"cannot read {file}: {error.strerror or error}: name a file of trained weights") from error
    if head[8:] == b"{":
        return _read_safetensors(file)
    if not head.startswith(SAVED_BY_TORCH):
        raise UseError(f"cannot read {file} as weights: it is neither safetensors nor a file that torch saved")
    return _named(file, _state(_unpickled(file)))


def _read_safetensors(file: Path) -> Weights:
    try:
        with safe_open(str(file), framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            metadata = opened.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise UseError(f"cannot read {file} as safetensors ({error}): it is damaged or cut short") from error
    mean_image = tensors.pop(MEAN_IMAGE, None)
    return _named(file, tensors, mean_image=mean_image, **_facts(metadata))


def _facts(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The step and the run that a file of ours says; nothing of any other."""
    try:
        facts = json.loads(metadata["degradation"])
        return {"step": int(facts["step"]), "run": dict(facts["run"])}
    except (KeyError, TypeError, ValueError):
        return {}


class PassedOver:
    """Made in place of an object beside the tensors, whatever is given to make it; it holds and does nothing."""

    def __new__(cls, *_made_of: object) -> "PassedOver":
        return super().__new__(cls)

    def __setstate__(self, _state: object) -> None:
        pass


def _unpickled(file: Path) -> Any:
    try:
        with torch.serialization.safe_globals([(PassedOver, name) for name in PASSED_OVER]):
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        named = f" ({found[1]})" if found else ""
        raise UseError(
            f"{file} is no state dict, or holds objects besides tensors{named}, which are never unpickled: "
            "save model.state_dict() alone, or as safetensors"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        why = re.split(r"\.\s|\n", str(error))[0].rstrip(".") or "it ends too early"  # a sentence, not the advice
        raise UseError(f"cannot read {file} as weights ({why}): it is damaged or cut short") from error


def _state(loaded: Any) -> dict[str, Tensor]:
    """The tensors of a state dict, at the top or nested under one of the usual keys."""
    while isinstance(loaded, Mapping):
        nest = next((key for key in NESTS if isinstance(loaded.get(key), Mapping)), None)
        if nest is None:
            break
        loaded = loaded[nest]
    found = loaded if isinstance(loaded, Mapping) else {}
    return {str(name): value for name, value in found.items() if isinstance(value, Tensor)}


def _named(file: Path, tensors: Mapping[str, Tensor], **said: Any) -> Weights:
    """The weights by our names. UseError where there are none."""
    if not tensors:
        raise UseError(f"{file} holds no tensors by name: expected a state dict, alone or under {', '.join(NESTS)}")
    names = {name: name for name in tensors}
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in names)), None):
        names = {name.removeprefix(prefix): own for name, own in names.items()}
    names = {".".join(RENAMED.get(piece, piece) for piece in name.split(".")): own for name, own in names.items()}
    return Weights(file=file, tensors={name: tensors[own] for name, own in names.items()}, names=names, **said)


@torch.no_grad()
def fill(network: Module, weights: Weights, what: str) -> None:
    """Put the weights into the network, ``what`` in words.

    Raises UseError, and changes nothing, where any tensor is missing, unknown, of another shape or not finite; it
    lists them by their names in the file, and says what network the file looks like. The counters of batches that
    batch norm keeps may be missing: nothing here reads them.
    """
    state = network.state_dict()
    given, own = weights.tensors, weights.names
    wrong = [
        f"{own[name]} is {_shape(given[name])}, expected {_shape(tensor)}"
        for name, tensor in state.items()
        if name in given and given[name].shape != tensor.shape
    ]
    wrong += [f"{n} {_shape(t)} is missing" for n, t in state.items() if n not in given and not n.endswith(COUNTER)]
    wrong += [f"{own[name]} {_shape(tensor)} is unknown" for name, tensor in given.items() if name not in state]
    if wrong:
        hint = f": {found}" if (found := _looks(given)) != _looks(state) else ""
        raise UseError(f"{weights.file} does not fit {what}: {_listed(wrong)}{hint}")
    if broken := [own[name] for name, tensor in given.items() if not tensor.isfinite().all()]:
        raise UseError(
            f"{weights.file}: not finite (NaN or infinite) is {_listed(broken)}: did this network's training diverge?"
        )
    for name, tensor in given.items():
        state[name].copy_(tensor)


def _looks(names: Iterable[str]) -> str:
    """What network has tensors of these names, and the options that ask for it; empty where it cannot be told."""
    blocks = {found[0] for name in names if (found := re.match(r"layer\d+\.\d+\b", name))}
    projecting = {found[1] for name in names if (found := re.match(r"(layer\d+\.\d+)\.downsample\.", name))}
    if any(block.startswith("layer4.") for block in blocks):
        return "a fourth stage (layer4) is not of the CIFAR family 6n+2, whose networks alone are probed"
    if not blocks or len(blocks) % 3:
        return ""
    depth, option = 2 * len(blocks) + 2, "A"
    if projecting:
        option = "C" if projecting == blocks else "B"
    also = " (or --network plain)" if option == "A" else ""  # the same tensors
    return f"these look like depth {depth}: try --depth {depth} --network residual --shortcut {option}{also}"


def _listed(items: list[str]) -> str:
    rest = f"; and {len(items) - LISTED} more" if len(items) > LISTED else ""
    return f"{'; '.join(items[:LISTED])}{rest}"


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
