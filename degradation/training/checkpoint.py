"""A checkpoint: the tensors of a state, the rows so far and the facts -> one safetensors object, and back."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from degradation.errors import DamagedError
from degradation.store import DIGEST, EMPTY, check_tensors, seal_tensors

ROWS, FACTS = "rows", "facts"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Everything a run needs to continue exactly; ``facts`` holds the environment that it started in."""

    tensors: dict[str, Tensor]
    rows: list[dict[str, Any]]
    facts: dict[str, Any]


def encode(checkpoint: Checkpoint) -> bytes:
    """The checkpoint as safetensors: the rows are UTF-8 JSON in a tensor of bytes, facts and a digest are metadata."""
    rows = bytearray(json.dumps(checkpoint.rows).encode())
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in checkpoint.tensors.items()}
    tensors[ROWS] = torch.frombuffer(rows, dtype=torch.uint8)
    return seal_tensors(bytes(save(tensors, {FACTS: json.dumps(checkpoint.facts), DIGEST: EMPTY})))


def decode(data: bytes) -> Checkpoint:
    """The checkpoint that ``encode`` wrote; DamagedError if any byte differs, also of a name, a type or a shape."""
    metadata = check_tensors(data)
    try:
        tensors = load(data)
        rows = json.loads(tensors.pop(ROWS).numpy().tobytes())
        return Checkpoint(tensors=tensors, rows=rows, facts=json.loads(metadata[FACTS]))
    except (SafetensorError, ValueError, RuntimeError, KeyError) as error:
        raise DamagedError(f"the checkpoint cannot be read ({error})") from error


def encode_weights(network_state: Mapping[str, Tensor], mean_image: Tensor, facts: Mapping[str, Any]) -> bytes:
    """Final weights as safetensors: fp32 weights, batch-norm buffers and the mean image (H, W, 3); facts as metadata.

    Only one metadata entry: safetensors does not keep the order of several, and equal weights must give equal bytes.
    """
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in network_state.items()}
    metadata = {"degradation": json.dumps(facts, sort_keys=True)}
    return bytes(save(tensors | {"mean_image": mean_image.contiguous().cpu()}, metadata))
