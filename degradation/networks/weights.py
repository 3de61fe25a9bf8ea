"""Initial weights: (seed, tensor name) -> the tensor, drawn on the CPU; and their hash."""

import hashlib
import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from degradation.networks.shortcuts import comes_with_shortcut
from degradation.spec import Initialization

Shape = tuple[int, ...]
Weights = NDArray[np.float32]


def generator(seed: int, name: str) -> np.random.Generator:
    """A random generator that depends only on the seed and the tensor's name."""
    key = int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key))


@torch.no_grad()
def draw_weights(network: nn.Module, seed: int, initialization: Initialization = "he") -> None:
    """Fill every weight of the network in place from (seed, its name), so that a twin gets the same ones.

    Convolutions: by the initialization, with biases zero. Linear layer: uniform within 1/sqrt(inputs), as in torch.
    Batch norm: gamma 1, beta 0.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            drawn = INITIALIZATIONS[initialization](generator(seed, f"{name}.weight"), tuple(module.weight.shape))
            module.weight.copy_(torch.from_numpy(drawn))
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.Linear):
            for kind, tensor in module.named_parameters():
                uniform = generator(seed, f"{name}.{kind}").random(tensor.shape, dtype=np.float32)
                tensor.copy_(torch.from_numpy((2 * uniform - 1) / np.float32(math.sqrt(module.in_features))))
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_parameters()


# The initializations of a convolution: (generator, shape (filters, inputs, k, k)) -> float32 weights


def he(draws: np.random.Generator, shape: Shape) -> Weights:
    """Normal with variance 2 / (k k filters) (He et al. 2015b, fan-out)."""
    filters, _, rows, columns = shape
    normal: Weights = draws.standard_normal(shape, dtype=np.float32)
    return normal * np.float32(math.sqrt(2.0 / (filters * rows * columns)))


def orthogonal(draws: np.random.Generator, shape: Shape) -> Weights:
    """The filters as rows of a matrix that is orthogonal, times sqrt(2), the gain of a ReLU.

    Saxe et al. 2014, as in ``torch.nn.init.orthogonal_``: if there are more filters than numbers in each, the columns
    are orthogonal. Equal on all machines except for rounding.
    """
    return _orthogonal(draws, shape[0], math.prod(shape[1:])).reshape(shape)


def delta_orthogonal(draws: np.random.Generator, shape: Shape) -> Weights:
    """Zero except for the centre tap, which is an orthogonal matrix times sqrt(2), the gain of a ReLU.

    Xiao et al. 2018 (arXiv:1806.05393): initially each pixel is mapped separately, with its norm preserved.
    """
    return _at_centre(_orthogonal(draws, shape[0], shape[1]), shape)


def dirac(draws: np.random.Generator, shape: Shape) -> Weights:
    """The identity: filter i copies channel i (``torch.nn.init.dirac_``; Zagoruyko and Komodakis 2017 add theirs).

    Filters beyond the number of channels are drawn as in ``he``: with zeros, as in torch, they would be dead after a
    ReLU.
    """
    copied = min(shape[0], shape[1])
    weights = he(draws, shape)
    weights[:copied] = _at_centre(np.eye(copied, shape[1], dtype=np.float32), (copied, *shape[1:]))
    return weights


def _orthogonal(draws: np.random.Generator, rows: int, columns: int) -> Weights:
    """A uniformly drawn matrix with orthogonal rows, or columns if it has more rows, each of norm sqrt(2)."""
    tall = draws.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(tall)
    q = q * np.sign(np.diag(r))  # without it the draw would depend on the routine that factorizes (Mezzadri 2007)
    return np.asarray(math.sqrt(2.0) * (q if rows >= columns else q.T), dtype=np.float32)


def _at_centre(matrix: Weights, shape: Shape) -> Weights:
    weights = np.zeros(shape, dtype=np.float32)
    weights[:, :, shape[2] // 2, shape[3] // 2] = matrix
    return weights


INITIALIZATIONS: dict[Initialization, Callable[[np.random.Generator, Shape], Weights]] = {
    "he": he,
    "orthogonal": orthogonal,
    "delta-orthogonal": delta_orthogonal,
    "dirac": dirac,
}


# Equality of weights


def weight_hash(named: Iterable[tuple[str, Tensor]]) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of names and values, in order of name."""
    total = hashlib.sha256()
    for name, tensor in sorted(named, key=lambda item: item[0]):
        total.update(name.encode())
        total.update(tensor.detach().contiguous().cpu().numpy().tobytes())
    return total.hexdigest()[:16]


def shared_weights(network: nn.Module) -> list[tuple[str, Tensor]]:
    """The weights that a matched twin of another kind or option also has."""
    return [(name, tensor) for name, tensor in network.named_parameters() if not comes_with_shortcut(name)]


def extra_weights(network: nn.Module) -> list[str]:
    """Names of the weights of the shortcuts, which a plain twin lacks."""
    return [name for name, _ in network.named_parameters() if comes_with_shortcut(name)]
