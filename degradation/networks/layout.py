"""Layout: the structure of a network in terms of the frames; the only module that checks module types."""

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
COMPILED = "_orig_mod"  # where torch.compile keeps the module that it wraps


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One weighted layer: where its weight is, and the module whose output is its response."""

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
    """What made an output of batch norm with batch statistics: gamma, beta and 1/sqrt(v + eps), each (C,), and eps."""

    gamma: Tensor
    beta: Tensor
    inverse_std: Tensor
    eps: float


def normalized(module: nn.Module, output: Tensor) -> Normalized | None:
    """What batch norm knows of its output; None for another module, for running statistics, and without gradients.

    The statistics are those that torch keeps for the backward pass, so this must be asked before it.
    """
    if not isinstance(module, NORMS) or module.weight is None or not (module.training or module.running_var is None):
        return None
    kept = getattr(output.grad_fn, "_saved_result2", None)
    if not isinstance(kept, Tensor) or kept.shape != module.weight.shape:
        return None
    return Normalized(
        gamma=module.weight.detach(), beta=module.bias.detach(), inverse_std=kept.detach().float(), eps=module.eps
    )


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

    They are in the order in which they were registered, until ``in_forward_order``. The norm of channels registered
    right behind a convolution is that layer's response; any other norm is a layer of its own. A multi-head attention
    is two: its projection of queries, keys and values, without a response, and its projection of the output. Each
    weight of an LSTM, GRU or RNN is a layer by the weight's name; the module's response is that of the last.
    A module of another type with a weight of two dimensions may be linear (``may_be_linear``): its calls show it.
    ``globs`` (``layer1.*``) choose layers by the name of their weight's module or of their response; with them any
    module that has a weight can be chosen. Raises UserError if one chooses none, where there is no layer at all, and
    for weights that a recording cannot read: without a shape yet, or sharded.
    """
    _refuse_unreadable(network)
    norm_behind = _norms_behind(network)
    attention = {
        f"{name}.out_proj": name for name, part in _modules(network) if isinstance(part, nn.MultiheadAttention)
    }
    found: list[Layer] = []
    for name, part in _modules(network):
        projects = name in attention.values()
        weighted = projects or (bool(globs) and isinstance(getattr(part, "weight", None), nn.Parameter))
        if isinstance(part, RECURRENT):
            found += _recurrent(name, part)
        elif name not in norm_behind.values() and (weighted or isinstance(part, LAYERS) or may_be_linear(part)):
            response = None if projects else norm_behind.get(name, attention.get(name, name))
            found.append(Layer(number=0, name=name, stage=1, response=response))
    chosen = _chosen(network, found, globs) if globs else found
    if not chosen:
        raise UserError("the network has no convolution, linear layer or norm to record: name others by layers=")
    return Layout(layers=tuple(replace(layer, number=n) for n, layer in enumerate(chosen, start=1)), blocks=())


def _refuse_unreadable(network: nn.Module) -> None:
    for name, weight in network.named_parameters():
        if isinstance(weight, nn.parameter.UninitializedParameter):
            raise UserError(f"{name} has no shape yet: call the lazy network once on a batch, then record it")
        if type(weight).__module__.startswith("torch.distributed.tensor"):
            raise UserError(
                f"{name} is sharded (fully_shard), which cannot be recorded: use one process or DistributedDataParallel"
            )


def _recurrent(name: str, part: nn.Module) -> list[Layer]:
    weights = [weight for weight, _ in part.named_parameters(recurse=False) if weight.startswith("weight")]
    front = f"{name}." if name else ""
    return [
        Layer(number=0, name=front + weight, stage=1, response=name if weight == weights[-1] else None)
        for weight in weights
    ]


def in_forward_order(layout: Layout, maps: Mapping[str, tuple[int, ...]]) -> Layout:
    """The Layout numbered in forward order, its stages counted by feature-map size.

    ``maps`` holds the feature-map size of each module that was called, in the order of the calls (``map_size``).
    Layers that were not called come last; their stage, and that of a layer without a response, is 1 where unknown.
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
    """Module -> its type, for those whose own trained weights belong to no layer of the Layout (embeddings, say).

    Also a layer whose weight is made of others, as `weight_norm` and pruning do it.

    Weights that a container module holds itself keep their own names.
    """
    whole = [layer for layer in layout.layers if held_weight(network, layer) is not None]
    covered = {name for layer in whole for name in _known_as(layer)}
    found: dict[str, str] = {}
    for name, part in _modules(network):
        own = [weight for weight, held in part.named_parameters(recurse=False) if held.requires_grad]
        if own and name not in covered:
            inner = any(part.children()) or not name
            front = f"{name}." if name else ""
            found |= {front + weight: "Parameter" for weight in own} if inner else {name: type(part).__name__}
    return found


def map_size(module: nn.Module, output: Tensor) -> tuple[int, ...]:
    """Height and width (or length) of an output that has channels; nothing for a linear layer or a layer norm."""
    return tuple(output.shape[2:]) if isinstance(module, (*CONVOLUTIONS, *CHANNEL_NORMS)) else ()


def may_be_linear(module: nn.Module) -> bool:
    """Whether it may be a linear layer of a type of its own, as the transposed ones of GPT-2 (``Conv1D``) are."""
    known = (*LAYERS, *RECURRENT, nn.Embedding, nn.EmbeddingBag, nn.MultiheadAttention, torch.jit.ScriptModule)
    weight = _own_weight(module)
    return weight is not None and weight.ndim == 2 and not isinstance(module, known) and not any(module.children())


def is_transposed_linear(module: nn.Module, inputs: Any, output: Tensor) -> bool:
    """Whether a call maps the last dimension as a weight of shape (in, out) does."""
    weight, first = _own_weight(module), inputs[0] if inputs else None
    if weight is None or not isinstance(first, Tensor) or not (first.ndim and output.ndim):
        return False
    return (first.shape[-1], output.shape[-1]) == tuple(weight.shape) and first.shape[:-1] == output.shape[:-1]


def _own_weight(module: nn.Module) -> Tensor | None:
    """The parameter ``weight`` as it is held: nothing is computed, as that of a parametrized module would be."""
    held = module._parameters  # of a scripted module no dict
    return held["weight"] if "weight" in held else None  # noqa: SIM401


def channels_of(module: nn.Module, output: Tensor) -> int:
    """How many values an output has at each position: the channels of a convolution, else the last dimension."""
    if output.ndim < 2:
        return output.numel()
    return int(output.shape[1 if isinstance(module, (*CONVOLUTIONS, *CHANNEL_NORMS)) else -1])


def held_weight(network: nn.Module, layer: Layer) -> nn.Parameter | None:
    """The weight of a layer where it holds one: that of an attention is its projection of queries, keys and values."""
    owner, _, last = layer.name.rpartition(".")
    recurrent = network.get_submodule(owner)
    if isinstance(recurrent, RECURRENT):
        return recurrent.get_parameter(last)
    module = network.get_submodule(layer.name)
    weight = getattr(module, "in_proj_weight" if isinstance(module, nn.MultiheadAttention) else "weight", None)
    return weight if isinstance(weight, nn.Parameter) else None


def norm_statistics(module: nn.Module) -> str:
    """The statistics of a response: ``batch`` of a norm that uses those of the batch, ``running`` of one that does not.

    A module that is no such norm has the word of its mode, as in a study of networks without norms: ``batch`` in
    training, ``running`` in evaluation.
    """
    without = isinstance(module, nn.modules.batchnorm._NormBase) and module.running_var is None
    return "batch" if module.training or without else "running"


def _modules(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every module once, by its name without the wrappers that torch.compile puts around a part."""
    for name, part in network.named_modules():
        if COMPILED not in part._modules:
            yield ".".join(piece for piece in name.split(".") if piece != COMPILED), part


def _norms_behind(network: nn.Module) -> dict[str, str]:
    """Convolution -> the norm of as many channels that is registered right behind it in the same module."""
    found = {}
    for owner, module in _modules(network):
        front = f"{owner}." if owner else ""
        for (name, part), (following, norm) in pairwise(module.named_children()):
            if isinstance(part, CONVOLUTIONS) and isinstance(norm, CHANNEL_NORMS):
                channels = norm.num_channels if isinstance(norm, nn.GroupNorm) else norm.num_features
                if channels == part.out_channels:
                    found[front + name] = front + following
    return found


def _chosen(network: nn.Module, layers: Sequence[Layer], globs: Sequence[str]) -> list[Layer]:
    for glob in globs:
        if not any(_named(layer, glob) for layer in layers):
            raise UserError(f"layers: no layer of the network is named {glob!r}{_instead(network, layers, glob)}")
    return [layer for layer in layers if any(_named(layer, glob) for glob in globs)]


def _instead(network: nn.Module, layers: Sequence[Layer], glob: str) -> str:
    """The rest of the refusal: what a name that matches no layer is, or the existing names."""
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
    """The names of a layer: of its response, of its weight's module, and of the recurrent module that holds it."""
    owner, _, last = layer.name.rpartition(".")
    names = (layer.name,) if layer.response is None else (layer.response, layer.name)
    return (*names, owner) if last.startswith(("weight_ih", "weight_hh", "weight_hr")) else names
