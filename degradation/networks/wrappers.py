"""All tensors of a file -> those of its network, without wrappers and other tensors."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Channels = tuple[tuple[float, float, float], tuple[float, float, float]]
NO_PART = re.compile(r"num_batches_tracked$|criterion|(^|[._])loss", re.IGNORECASE)
"""Names of tensors that the outputs do not depend on: counters of batches, and those of a loss."""
AVERAGED = re.compile(r"(^|[._])ema([._]|$)|averag", re.IGNORECASE)
EPS = 1e-5  # of torch's batch norm


@dataclass(frozen=True, kw_only=True)
class Unwrapped:
    """The network in a file."""

    tensors: Mapping[str, Tensor]
    """The tensors of the network by their names after ``prefix``."""
    prefix: str = ""
    """The start of each name in the file: that of a wrapper, or the key of a dict in a dict, and a dot."""
    outside: tuple[str, ...] = ()
    """Names of tensors that are no part of the network."""
    channels: Channels | None = None
    """Mean and std of each channel, if the file holds a normalization of the images."""


def unwrapped(tensors: Mapping[str, Tensor]) -> Unwrapped:
    """The smallest module that holds a convolution of images and a linear layer.

    Of several the largest, and of equal ones the first that is no average of weights. Mean and std are those of a
    normalization before the network, anywhere in the file.
    """
    parts = {name: tensor for name, tensor in tensors.items() if not _counts(tensor) and not NO_PART.search(name)}
    colours = {name: tensor for name, tensor in parts.items() if tensor.numel() == 3}
    channels = _normalization(colours)
    if channels:
        parts = {name: tensor for name, tensor in parts.items() if name not in colours}
    prefix, names = _network_of(parts)
    inside = {name.removeprefix(prefix): parts[name] for name in names}
    used = {*names, *(colours if channels else ())}
    outside = [name for name, t in tensors.items() if not (name in used or _counts(t) or name.endswith("_tracked"))]
    return Unwrapped(tensors=inside, prefix=prefix, outside=tuple(outside), channels=channels)


def _counts(tensor: Tensor) -> bool:
    """Whether it is a single whole number, such as ``n_averaged``."""
    return tensor.numel() == 1 and not (tensor.is_floating_point() or tensor.is_complex() or tensor.is_quantized)


def _network_of(tensors: Mapping[str, Tensor]) -> tuple[str, list[str]]:
    """The prefix of the network's names, and the names; a network inside another has its own names."""
    weights = {name: tensor for name, tensor in tensors.items() if f".{name}".endswith(".weight")}
    linear = {scope for name, tensor in weights.items() if tensor.dim() == 2 for scope in scopes(name)}
    sees_images = [name for name, tensor in weights.items() if tensor.dim() == 4 and tensor.shape[1] == 3]
    networks = {next((scope for scope in scopes(name) if scope in linear), ""): 0 for name in sees_images}
    if not networks or not linear:  # an incomplete network: the error will name the missing part
        owners = [name for name, tensor in weights.items() if tensor.dim() == 4] or list(tensors)
        networks = {_common([name.rpartition(".")[0] for name in owners]): 0}
    own = {name: max((n for n in networks if name.startswith(n)), key=len, default=None) for name in tensors}
    sizes = Counter(own.values())
    prefix = max(networks, key=lambda network: (sizes[network], not AVERAGED.search(network)))
    return prefix, [name for name in tensors if own[name] == prefix]


def scopes(name: str) -> Iterator[str]:
    """The modules that contain a tensor, from the innermost: ``a.b.weight`` -> ``a.b.``, ``a.``, and ``""``."""
    while name:
        name = name.rpartition(".")[0]
        yield name and f"{name}."


def _common(modules: list[str]) -> str:
    """The innermost module that contains all of these; for a single one the module around it."""
    around = scopes(modules[0]) if modules else iter(())
    return next((scope for scope in around if all(module.startswith(scope) for module in modules)), "")


def _normalization(colours: Mapping[str, Tensor]) -> Channels | None:
    """Mean and std for pixels of 0..1, if these tensors of three numbers have them: by name, or those of a batch norm.

    A mean above 1 is for pixels of 0..255.
    """
    if any(not t.is_floating_point() or t.is_meta or t.layout != torch.strided for t in colours.values()):
        return None
    parts = {name.rpartition(".")[2]: tensor.detach().double().flatten() for name, tensor in colours.items()}
    means = [part for name, part in parts.items() if "mean" in name]
    stds = [part for name, part in parts.items() if "std" in name]
    if len(parts) == len(colours) == 2 and len(means) == len(stds) == 1:
        mean, std = means[0], stds[0]
    elif len(colours) == 4 and parts.keys() == {"weight", "bias", "running_mean", "running_var"}:
        std = (parts["running_var"] + EPS).sqrt() / parts["weight"]
        mean = parts["running_mean"] - parts["bias"] * std
    else:
        return None
    if not (torch.isfinite(mean).all() and torch.isfinite(std).all() and (std != 0).all()):
        return None
    scale = 255 if mean.abs().max() > 1 else 1
    first, second = ([float(value) / scale for value in numbers] for numbers in (mean, std))
    return (first[0], first[1], first[2]), (second[0], second[1], second[2])
