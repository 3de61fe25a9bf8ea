"""Layout: the structure of a network as the frames describe it; the only module that checks module types."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from degradation.errors import UserError

NORMS = (nn.modules.batchnorm._BatchNorm,)
CONVOLUTIONS = (nn.modules.conv._ConvNd,)
CHANNEL_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm)
LAYERS = (*CONVOLUTIONS, nn.Linear, *CHANNEL_NORMS, nn.LayerNorm, nn.RMSNorm)
RECURRENT = (nn.RNNBase, nn.RNNCellBase)
WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)
COMPILED = "_orig_mod"  # torch.compile's name for the module that it wraps


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One weighted layer: the module of its weight, and the module whose output is its response."""

    number: int
    """1-based, in forward order."""
    name: str
    """Module that holds the weight, e.g. ``layer1.0.conv1``."""
    stage: int
    response: str | None
    """Module whose output is the response (the batch norm; without one the convolution); None for the linear layer."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """Two or three layers and the shortcut around them."""

    number: int
    name: str
    stage: int
    branch: str
    """Module whose output is F(x), the branch before the addition."""
    shortcut: str | None
    """Module whose output is added to the branch; None in a plain network."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The weighted layers in forward order (the linear layer last) and the blocks of a network."""

    layers: tuple[Layer, ...]
    blocks: tuple[Block, ...]

    @property
    def responding(self) -> tuple[Layer, ...]:
        """The layers that have a response: all but the linear one."""
        return tuple(layer for layer in self.layers if layer.response is not None)


@dataclass(frozen=True, kw_only=True)
class Normalized:
    """The parts of an output of batch norm with batch statistics: gamma, beta, 1/sqrt(v + eps), each (C,), and eps."""

    gamma: Tensor
    beta: Tensor
    inverse_std: Tensor
    eps: float


def normalized(module: nn.Module, output: Tensor) -> Normalized | None:
    """The parts of batch norm's output; None for another module, for running statistics, and without gradients.

    The statistics are those that torch keeps for the backward pass, so call this before it.
    """
    if not isinstance(module, NORMS) or module.weight is None or not (module.training or module.running_var is None):
        return None
    saved = getattr(output.grad_fn, "_saved_result2", None)
    if not isinstance(saved, Tensor) or saved.shape != module.weight.shape:
        return None
    gamma, beta, inverse_std = module.weight.detach(), module.bias.detach(), saved.detach().float()
    return Normalized(gamma=gamma, beta=beta, inverse_std=inverse_std, eps=module.eps)


def norms(network: nn.Module) -> Iterator[nn.modules.batchnorm._BatchNorm]:
    """The batch norms of a network."""
    return (module for module in network.modules() if isinstance(module, NORMS))


def weight_of(network: nn.Module, layer: Layer) -> torch.nn.Parameter:
    """The weight tensor of a layer."""
    weight = held_weight(network, layer)
    if weight is None:
        raise TypeError(f"{layer.name} holds no weight parameter")
    return weight


# Layouts of networks that are not ours


def unwrapped(network: nn.Module) -> nn.Module:
    """The network inside DistributedDataParallel and torch.compile, however they are nested."""
    while isinstance(network, WRAPPERS) or COMPILED in network._modules:
        network = network.module if isinstance(network, WRAPPERS) else network._modules[COMPILED] or network
    return network


def inferred(network: nn.Module, globs: Sequence[str] = ()) -> Layout:
    """The Layout of any network: convolutions, linear and recurrent layers, norms; without blocks, stage 1 everywhere.

    They are in the order of their registration, until ``in_forward_order``. The norm of channels registered directly
    after a convolution is that layer's response; any other norm is a separate layer. A multi-head attention gives two
    layers: its projection of queries, keys and values, without a response, and its projection of the output. Each
    weight of an LSTM, GRU or RNN is a layer with the weight's name; the module's response is that of the last.
    A module of another type with a weight of two dimensions may be linear (``may_be_linear``): its calls show it.
    ``globs`` (``layer1.*``) choose layers by the name of their weight's module or of their response; with them any
    module that has a weight can be chosen. Raises UserError if one matches no layer, if there is no layer at all, and
    for weights that a recording cannot read: without a shape yet, or sharded.
    """
    _refuse_unreadable(network)
    norm_after = _norms_after(network)
    attention = {
        f"{name}.out_proj": name for name, part in _modules(network) if isinstance(part, nn.MultiheadAttention)
    }
    layers: list[Layer] = []
    for name, part in _modules(network):
        projects = name in attention.values()
        weighted = projects or (bool(globs) and isinstance(getattr(part, "weight", None), nn.Parameter))
        if isinstance(part, RECURRENT):
            weights = [weight for weight, _ in part.named_parameters(recurse=False) if weight.startswith("weight")]
            for weight in weights:
                response = name if weight == weights[-1] else None
                layers.append(Layer(number=0, name=_path(name, weight), stage=1, response=response))
        elif name not in norm_after.values() and (weighted or isinstance(part, LAYERS) or may_be_linear(part)):
            response = None if projects else norm_after.get(name, attention.get(name, name))
            layers.append(Layer(number=0, name=name, stage=1, response=response))
    layers = _chosen(network, layers, globs) if globs else layers
    if not layers:
        raise UserError("the network has no convolution, linear layer or norm to record: name others by layers=")
    return Layout(layers=tuple(replace(layer, number=n) for n, layer in enumerate(layers, start=1)), blocks=())


def _path(owner: str, name: str) -> str:
    """Name of a part of a module; the outermost module has no name."""
    return f"{owner}.{name}" if owner else name


def _refuse_unreadable(network: nn.Module) -> None:
    for name, weight in network.named_parameters():
        if isinstance(weight, nn.parameter.UninitializedParameter):
            raise UserError(f"{name} has no shape yet: call the lazy network once on a batch, then record it")
        if type(weight).__module__.startswith("torch.distributed.tensor"):
            raise UserError(
                f"{name} is sharded (fully_shard), which cannot be recorded: use one process or DistributedDataParallel"
            )


def in_forward_order(layout: Layout, maps: Mapping[str, tuple[int, ...]]) -> Layout:
    """The Layout numbered in forward order, its stages counted by feature-map size.

    ``maps`` holds the feature-map size of each module that was called, in the order of the calls (``map_size``).
    Layers that were not called come last; an unknown stage is 1, also that of a layer without a response.
    """
    calls, sizes = {name: place for place, name in enumerate(maps)}, list(dict.fromkeys(maps.values()))
    called = {layer.name: next((name for name in _known_as(layer) if name in calls), "") for layer in layout.layers}
    ordered = sorted(layout.layers, key=lambda layer: calls.get(called[layer.name], len(calls)))
    stages = {name: sizes.index(size) + 1 for name, size in maps.items()}
    layers = [
        replace(layer, number=number, stage=stages.get(called[layer.name], 1))
        for number, layer in enumerate(ordered, start=1)
    ]
    return replace(layout, layers=tuple(layers))


def uncovered(network: nn.Module, layout: Layout) -> dict[str, str]:
    """Module -> its type, for modules whose own trained weights belong to no layer of the Layout (such as embeddings).

    Also a layer whose weight is computed from others, as with `weight_norm` and pruning.

    Weights that a container module holds itself keep their own names.
    """
    readable = [layer for layer in layout.layers if held_weight(network, layer) is not None]
    covered = {name for layer in readable for name in _known_as(layer)}
    types: dict[str, str] = {}
    for name, part in _modules(network):
        own = [weight for weight, value in part.named_parameters(recurse=False) if value.requires_grad]
        if own and name not in covered:
            container = any(part.children()) or not name
            types |= {_path(name, weight): "Parameter" for weight in own} if container else {name: type(part).__name__}
    return types


def map_size(module: nn.Module, output: Tensor) -> tuple[int, ...]:
    """Height and width (or length) of an output that has channels; empty for a linear layer or a layer norm."""
    return tuple(output.shape[2:]) if isinstance(module, (*CONVOLUTIONS, *CHANNEL_NORMS)) else ()


def may_be_linear(module: nn.Module) -> bool:
    """Whether it may be a linear layer of another type, such as the transposed ones of GPT-2 (``Conv1D``)."""
    other = (*LAYERS, *RECURRENT, nn.Embedding, nn.EmbeddingBag, nn.MultiheadAttention, torch.jit.ScriptModule)
    weight = _own_weight(module)
    return weight is not None and weight.ndim == 2 and not isinstance(module, other) and not any(module.children())


def is_transposed_linear(module: nn.Module, inputs: Any, output: Tensor) -> bool:
    """Whether a call maps the last dimension as a weight of shape (in, out) does."""
    weight, first = _own_weight(module), inputs[0] if inputs else None
    if weight is None or not isinstance(first, Tensor) or not (first.ndim and output.ndim):
        return False
    return (first.shape[-1], output.shape[-1]) == tuple(weight.shape) and first.shape[:-1] == output.shape[:-1]


def _own_weight(module: nn.Module) -> Tensor | None:
    """The parameter ``weight`` of a module, without computing that of a parametrized one."""
    parameters = module._parameters  # no dict in a scripted module
    return parameters["weight"] if "weight" in parameters else None  # noqa: SIM401


def channels_of(module: nn.Module, output: Tensor) -> int:
    """Number of values of an output at each position: the channels of a convolution, else the last dimension."""
    if output.ndim < 2:
        return output.numel()
    return int(output.shape[1 if isinstance(module, (*CONVOLUTIONS, *CHANNEL_NORMS)) else -1])


def held_weight(network: nn.Module, layer: Layer) -> nn.Parameter | None:
    """The weight of a layer, or None; that of an attention is its projection of queries, keys and values."""
    owner, _, last = layer.name.rpartition(".")
    recurrent = network.get_submodule(owner)
    if isinstance(recurrent, RECURRENT):
        return recurrent.get_parameter(last)
    module = network.get_submodule(layer.name)
    weight = getattr(module, "in_proj_weight" if isinstance(module, nn.MultiheadAttention) else "weight", None)
    return weight if isinstance(weight, nn.Parameter) else None


def norm_statistics(module: nn.Module) -> str:
    """The statistics of a response: ``batch`` of a norm that uses those of the batch, ``running`` of another norm.

    For any other module it is the word of its mode, as in a study of networks without norms: ``batch`` in training,
    ``running`` in evaluation.
    """
    without = isinstance(module, nn.modules.batchnorm._NormBase) and module.running_var is None
    return "batch" if module.training or without else "running"


def _modules(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every module once, by its name without torch.compile's wrappers."""
    for name, part in network.named_modules():
        if COMPILED not in part._modules:
            yield ".".join(piece for piece in name.split(".") if piece != COMPILED), part


def _norms_after(network: nn.Module) -> dict[str, str]:
    """Convolution -> the norm with equally many channels that is registered directly after it in the same module."""
    norms = {}
    for owner, module in _modules(network):
        for (name, part), (following, norm) in pairwise(module.named_children()):
            if isinstance(part, CONVOLUTIONS) and isinstance(norm, CHANNEL_NORMS):
                channels = norm.num_channels if isinstance(norm, nn.GroupNorm) else norm.num_features
                if channels == part.out_channels:
                    norms[_path(owner, name)] = _path(owner, following)
    return norms


def _chosen(network: nn.Module, layers: Sequence[Layer], globs: Sequence[str]) -> list[Layer]:
    for glob in globs:
        if not any(_named(layer, glob) for layer in layers):
            raise UserError(f"layers: no layer of the network is named {glob!r}{_instead(network, layers, glob)}")
    return [layer for layer in layers if any(_named(layer, glob) for glob in globs)]


def _instead(network: nn.Module, layers: Sequence[Layer], glob: str) -> str:
    """The end of the error: the kind of the module of that name, or the most similar names of layers."""
    names = [layer.name for layer in layers]
    part = dict(_modules(network)).get(glob) if glob else None
    if part is not None and any(name.startswith(f"{glob}.") for name in names):
        return f": it is a {type(part).__name__} of layers, which '{glob}.*' chooses"
    if part is not None:
        return f": it is a {type(part).__name__}, which holds no weight of its own that can be recorded"
    near = get_close_matches(glob, names, n=3, cutoff=0.3) or names[:3]
    return f"; there are {', '.join(near)}, ..."


def _named(layer: Layer, glob: str) -> bool:
    return any(fnmatchcase(name, glob) for name in _known_as(layer))


def _known_as(layer: Layer) -> tuple[str, ...]:
    """The names of a layer: of its response, of its weight's module, and of its recurrent module."""
    owner, _, last = layer.name.rpartition(".")
    names = (layer.name,) if layer.response is None else (layer.response, layer.name)
    return (*names, owner) if last.startswith(("weight_ih", "weight_hh", "weight_hr")) else names
