"""Weights of a file -> the state of one of our networks: by name, or by shape and order if names differ."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain, zip_longest

import torch
from torch import Tensor
from torch.nn import Module

from degradation.errors import UserError
from degradation.networks.recognition import Layers, held, layers_of, looks, of_another_family
from degradation.networks.weight_files import Weights

RENAMED = {"linear": "fc", "shortcut": "downsample"}
"""Names in public implementations -> ours."""
LEAVES = ("weight", "bias", "running_mean", "running_var")
COUNTER = "num_batches_tracked"  # of batch norm; not read here
LISTED = 4  # most misfits in an error


@dataclass(frozen=True, kw_only=True)
class Matched:
    """Our name of each tensor -> its name after the prefix of the file."""

    names: Mapping[str, str]
    biases: Mapping[str, str] = field(default_factory=dict)
    """A running mean of ours -> the bias of the convolution before it, which is subtracted: the output is the same."""
    by_order: bool = False


def matched(state: Mapping[str, Tensor], weights: Weights, what: str) -> Matched:
    """Match the tensors of the file with ours, by name, else by shape and order.

    Raises UserError if any is missing, unknown, or of another shape: it lists some by their names in the file, and
    the network that the file looks like.
    """
    match, wrong = _best(state, weights)
    if wrong:
        raise UserError(f"{weights.file} does not fit {what}: {listed(wrong)}{_hint(state, weights, wrong)}")
    return match


def misfits(state: Mapping[str, Tensor], weights: Weights) -> list[str]:
    """The tensors of a file that do not fit a network, as text; empty if all fit."""
    return _best(state, weights)[1]


def _best(state: Mapping[str, Tensor], weights: Weights) -> tuple[Matched, list[str]]:
    """The match by name, or that by shape and order if only it is complete; and the misfits."""
    expected = {name: tensor for name, tensor in state.items() if not name.endswith(COUNTER)}
    ours, theirs = layers_of(expected), layers_of(weights.tensors)
    named = {name: own for own, name in _renamed(weights.tensors).items()}
    names = {name: own for name, own in named.items() if name in expected}
    by_name = Matched(names=names, biases=_biases(ours, named, expected))
    wrong = _wrong(expected, weights, by_name)
    if wrong and not weights.run and ours.norms and theirs.norms and ours.counts == theirs.counts:
        by_order = _by_order(expected, weights, ours, theirs)
        if not (wrong_by_order := _wrong(expected, weights, by_order)):
            return by_order, []
        wrong = min(wrong_by_order, wrong, key=len)
    return by_name, wrong


def _renamed(names: Mapping[str, Tensor]) -> dict[str, str]:
    """A tensor's name in the file -> ours, unless another has ours already."""
    ours = {name: ".".join(RENAMED.get(piece, piece) for piece in name.split(".")) for name in names}
    return {name: name if name != new and new in names else new for name, new in ours.items()}


def _biases(ours: Layers, named: Mapping[str, str], expected: Mapping[str, Tensor]) -> dict[str, str]:
    """Our running means -> biases of the file that our convolutions do not have."""
    norms = {f"{name}.bias": norm for name, norm in ours.norms.items()}
    return {f"{norm}.running_mean": named[n] for n, norm in norms.items() if n in named and n not in expected}


def _by_order(expected: Mapping[str, Tensor], weights: Weights, ours: Layers, theirs: Layers) -> Matched:
    modules = dict(ours.pairs(theirs))
    places = {f"{module}.{leaf}": f"{other}.{leaf}" for module, other in modules.items() for leaf in LEAVES}
    named = {name: own for name, own in places.items() if own in weights.tensors}
    names = {name: own for name, own in named.items() if name in expected}
    return Matched(names=names, biases=_biases(ours, named, expected), by_order=True)


def _wrong(expected: Mapping[str, Tensor], weights: Weights, match: Matched) -> list[str]:
    """Misfits as text: of another shape, missing, and unknown, one of each in turn."""
    given = weights.tensors
    pairs = [(expected[name], own) for name, own in chain(match.names.items(), match.biases.items())]
    used = {own for _, own in pairs}
    shapes = [
        f"{weights.own(own)} is {_shape(given[own])}, expected {_shape(tensor)}"
        for tensor, own in pairs
        if tensor.shape != given[own].shape
    ]
    missing = [f"{name} {_shape(tensor)} is missing" for name, tensor in expected.items() if name not in match.names]
    unknown = [f"{weights.own(own)} {_shape(tensor)} is unknown" for own, tensor in given.items() if own not in used]
    return [item for items in zip_longest(shapes, missing, unknown) for item in items if item]


def _hint(state: Mapping[str, Tensor], weights: Weights, wrong: list[str]) -> str:
    """The network that the file looks like, or its contents if there is none; empty if little is wrong."""
    if another := of_another_family(weights.tensors):
        return f": {another}"
    sizes, expected = looks(weights.tensors), looks(state)
    if sizes is None and len(wrong) > LISTED:
        return f": it holds {held(weights.tensors)}"
    return f": these look like depth {sizes.depth}: try {sizes.options()}" if sizes and sizes != expected else ""


@torch.no_grad()
def fill(network: Module, weights: Weights, what: str) -> Matched:
    """Put the weights into the network, described by ``what``; return the match of the tensors.

    Raises UserError, and changes nothing, if they do not fit, or if a value is not finite and real or a variance is
    below 0.
    """
    state = network.state_dict()
    match = matched(state, weights, what)
    values = {own: _values(weights, own) for own in chain(match.names.values(), match.biases.values())}
    if broken := [weights.own(own) for own, value in values.items() if not value.isfinite().all()]:
        raise UserError(
            f"{weights.file}: not finite (NaN or infinite) is {listed(broken)}: did this network's training diverge?"
        )
    variances = [own for name, own in match.names.items() if name.endswith("running_var")]
    if negative := [weights.own(own) for own in variances if (values[own] < 0).any()]:
        raise UserError(
            f"{weights.file}: expected variances of at least 0, negative is {listed(negative)}: was the file damaged?"
        )
    for name, own in match.names.items():
        bias = match.biases.get(name)
        state[name].copy_(values[own] if bias is None else values[own] - values[bias])
    return match


def _values(weights: Weights, own: str) -> Tensor:
    """A tensor of the file as dense fp32. UserError if it holds no real numbers."""
    tensor, refused = weights.tensors[own].detach(), f"{weights.file}: {weights.own(own)}"
    if tensor.is_meta:
        raise UserError(f"{refused} has a shape and no values (device meta): save it from a device that holds them")
    if not (tensor.is_floating_point() or tensor.is_quantized):
        kind = str(tensor.dtype).removeprefix("torch.")
        raise UserError(f"{refused} is {kind}, expected real numbers such as float32: convert it before it is saved")
    try:
        return (_dequantized(tensor) if tensor.is_quantized else tensor.to_dense()).float()
    except (RuntimeError, TypeError) as error:  # NotImplementedError among them
        kind = f"{tensor.dtype}, {tensor.layout}".replace("torch.", "")
        raise UserError(f"{refused} ({kind}) cannot be read as float32: convert it before it is saved") from error


def _dequantized(tensor: Tensor) -> Tensor:
    """By torch, or by hand for scales by channel: on 32-bit integers torch 2.14 crashes (illegal instruction)."""
    if tensor.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        return tensor.dequantize()
    by_channel = [-1 if axis == tensor.q_per_channel_axis() else 1 for axis in range(tensor.dim())]
    scales, zeros = (
        numbers.view(by_channel) for numbers in (tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points())
    )
    return (tensor.int_repr() - zeros) * scales


def listed(items: list[str]) -> str:
    """The first items, and the number of further ones."""
    more = f"; and {len(items) - LISTED} more" if len(items) > LISTED else ""
    return f"{'; '.join(items[:LISTED])}{more}"


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
