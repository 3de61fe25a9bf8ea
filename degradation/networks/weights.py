"""Initial weights: (seed, tensor name) -> the tensor, drawn on the CPU; and the hash that proves them."""

import hashlib
import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from degradation.networks.shortcuts import is_projection_weight


def generator(seed: int, name: str) -> np.random.Generator:
    """A random generator that depends on nothing but the seed and the tensor's name."""
    key = int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key))


@torch.no_grad()
def draw_weights(network: nn.Module, seed: int) -> None:
    """Fill every weight of the network in place from (seed, its name), so that a twin gets the same ones.

    Convolutions: normal with variance 2 / (k k filters) (He et al. 2015b, fan-out). Linear layer: uniform
    within 1/sqrt(inputs), as torch draws it. Batch norm: gamma 1, beta 0.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            draw = generator(seed, f"{name}.weight").standard_normal(module.weight.shape, dtype=np.float32)
            module.weight.copy_(torch.from_numpy(draw * np.float32(math.sqrt(2.0 / fan_out))))
        elif isinstance(module, nn.Linear):
            for kind, tensor in module.named_parameters():
                uniform = generator(seed, f"{name}.{kind}").random(tensor.shape, dtype=np.float32)
                tensor.copy_(torch.from_numpy((2 * uniform - 1) / np.float32(math.sqrt(module.in_features))))
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_parameters()


def weight_hash(named: Iterable[tuple[str, Tensor]]) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of names and values, in order of name."""
    total = hashlib.sha256()
    for name, tensor in sorted(named, key=lambda item: item[0]):
        total.update(name.encode())
        total.update(tensor.detach().contiguous().cpu().numpy().tobytes())
    return total.hexdigest()[:16]


def shared_weights(network: nn.Module) -> list[tuple[str, Tensor]]:
    """The weights that a matched twin of another kind or option has too."""
    return [(name, tensor) for name, tensor in network.named_parameters() if not is_projection_weight(name)]


def extra_weights(network: nn.Module) -> list[str]:
    """Names of the weights of projection shortcuts, which a plain twin lacks."""
    return [name for name, _ in network.named_parameters() if is_projection_weight(name)]
