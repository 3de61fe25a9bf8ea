"""A checkpoint: the tensors of a state, the rows so far and the facts -> one safetensors object, and back."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from degradation.errors import DamagedError

ROWS = "rows"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a run needs to continue exactly: ``facts`` holds the environment that it started in."""

    tensors: dict[str, Tensor]
    rows: list[dict[str, Any]]
    facts: dict[str, Any]


def encode(checkpoint: Checkpoint) -> bytes:
    """Safetensors: the tensors, the rows as UTF-8 JSON in a tensor of bytes, the facts and a digest as metadata."""
    rows = bytearray(json.dumps(checkpoint.rows).encode())
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in checkpoint.tensors.items()}
    tensors[ROWS] = torch.frombuffer(rows, dtype=torch.uint8)
    facts = json.dumps(checkpoint.facts)
    return bytes(save(tensors, {"facts": facts, "sha256": _digest(tensors, facts)}))


def decode(data: bytes) -> Checkpoint:
    """The checkpoint that ``encode`` wrote; DamagedError where a byte differs."""
    metadata = peek(data)
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise DamagedError(f"the checkpoint cannot be read ({error})") from error
    if ROWS not in tensors or metadata.get("sha256") != _digest(tensors, metadata.get("facts", "")):
        raise DamagedError("the checkpoint does not hold what was written to it")
    rows = json.loads(tensors.pop(ROWS).numpy().tobytes())
    return Checkpoint(tensors=tensors, rows=rows, facts=json.loads(metadata["facts"]))


def peek(data: bytes) -> Mapping[str, str]:
    """The metadata in a safetensors header; DamagedError where there is none."""
    try:
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length])["__metadata__"]
        return {str(name): str(value) for name, value in metadata.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError("the checkpoint cannot be read (no header)") from error


def _digest(tensors: Mapping[str, Tensor], facts: str) -> str:
    total = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        total.update(name.encode())
        total.update(tensors[name].numpy().tobytes())
    return total.hexdigest()


def encode_weights(network_state: Mapping[str, Tensor], mean_image: Tensor, facts: Mapping[str, Any]) -> bytes:
    """Final weights: fp32 weights, batch-norm buffers and the mean image (H, W, 3), with facts as metadata.

    One metadata entry: safetensors does not keep several in order, and equal weights shall be equal bytes.
    """
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in network_state.items()}
    metadata = {"degradation": json.dumps(facts, sort_keys=True)}
    return bytes(save(tensors | {"mean_image": mean_image.contiguous().cpu()}, metadata))
