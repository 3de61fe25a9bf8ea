"""Weights of a file and given fields -> their network; other fields are read from the file."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, get_args

import torch

from degradation import networks
from degradation.errors import UserError
from degradation.networks.cifar import CifarNetwork
from degradation.networks.recognition import Sizes, held, layers_of, looks, of_another_family, weight_of, without_norms
from degradation.networks.state_dicts import Matched, fill, listed, matched, misfits
from degradation.networks.weight_files import Weights, shown
from degradation.spec import Network, Shortcut, valid_depth
from degradation.spec.grid import filters

DEEPEST = 1202  # the paper's deepest network, and the deepest that a file of unknown depth is compared with
WIDEST = 100  # times the paper's filters
NEARLY = 4  # a network is near if at most one in so many of its tensors does not fit


@dataclass(frozen=True, kw_only=True)
class Read:
    """A network with the weights of a file; its description, and notes on how the file was read, as text."""

    network: CifarNetwork
    what: str
    notes: tuple[str, ...]


def network_of(
    weights: Weights, *, network: str | None = None, depth: str | None = None, shortcut: str | None = None
) -> Read:
    """The network with these weights and the given fields. A file of ours holds norm, width and block.

    Raises UserError if there is no such network, if the file is of another, or if any tensor does not fit; nothing is
    built before.
    """
    kind, layers, option, built = _resolve_network(weights, _checked(network, depth, shortcut))
    what = _description(kind, layers, option)
    fields: Any = (kind, layers, option)  # validated
    try:
        shapes = _shapes(kind, layers, option, built)
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"{weights.file} cannot be read as {shown(what)}: {shown(str(error))}") from error
    matched(shapes, weights, what)
    model: CifarNetwork = networks.network(*fields, seed=None, **built)
    match = fill(model, weights, what)
    certain = bool(network or weights.run or option != "A")
    return Read(network=model, what=what, notes=tuple(_notes(weights, match, certain)))


def _checked(network: str | None, depth: str | None, shortcut: str | None) -> dict[str, Any]:
    """The given fields, validated, by the names of a run's fields."""
    fields: dict[str, Any] = {}
    for name, value, kind in (("network", network, Network), ("shortcut", shortcut, Shortcut)):
        if value is not None and value not in get_args(kind):
            raise UserError(f"--{name}: expected {', '.join(sorted(get_args(kind)))}, not {value!r}")
        fields |= {} if value is None else {name: value}
    if depth is not None:
        if not depth.isdecimal():
            raise UserError(f"--depth: expected a whole number of layers, 6n+2, not {depth!r}")
        try:
            fields["depth"] = valid_depth(int(depth))
        except ValueError as error:
            raise UserError(f"--depth {depth[:20]}: {error}") from error
    if network == "plain":
        fields.setdefault("shortcut", "none")
    return fields


def _resolve_network(weights: Weights, given: dict[str, Any]) -> tuple[str, int, str, dict[str, Any]]:
    """Kind, depth, shortcut and the other fields: from the given ones, the file's metadata and its tensors."""
    sizes = looks(weights.tensors)
    reason = of_another_family(weights.tensors)
    if reason or (sizes and not weights.run and (reason := without_norms(weights.tensors))):
        raise UserError(f"{weights.file} is of no network that can be probed: {reason}")
    inferred = {"depth": sizes.depth, "shortcut": sizes.shortcut} if sizes else {}
    metadata = {name: weights.run[name] for name in ("network", "depth", "shortcut") if name in weights.run}
    fields = {"network": "residual"} | inferred | metadata | given
    if fields["network"] == "plain" and "shortcut" not in given | metadata:
        fields["shortcut"] = "none"
    _check_agreement(weights, fields, metadata, sizes)
    if "depth" not in fields:
        raise UserError(_unknown(weights, fields["network"]))
    built = {name: weights.run[name] for name in networks.BUILT if name in weights.run}
    if not weights.run and sizes:
        built["width"] = sizes.width
    return fields["network"], fields["depth"], fields.get("shortcut", "A"), built


def _check_agreement(
    weights: Weights, fields: Mapping[str, Any], metadata: Mapping[str, Any], sizes: Sizes | None
) -> None:
    """UserError if the fields differ from the file's metadata, or from its tensors."""
    if any(fields[name] != value for name, value in metadata.items()):
        options = [f"--{name} {shown(str(value))[:20]}" for name, value in metadata.items() if value != "none"]
        raise UserError(f"{weights.file} says that it is of another network: try {' '.join(options)}")
    if sizes is None:
        if weights.run:
            raise UserError(_unknown(weights, fields["network"]))
        return
    if weights.run.get("width", sizes.width) != sizes.width:
        width = shown(str(weights.run["width"]))[:20]
        raise UserError(
            f"{weights.file} says width {width}, and its tensors are of width {sizes.width}: is it damaged?"
        )
    shortcut = "A" if fields.get("shortcut") == "none" else fields.get("shortcut")
    if (fields["depth"], shortcut) != (sizes.depth, sizes.shortcut):
        raise UserError(
            f"{weights.file} is of another network: these look like depth {sizes.depth}: try {sizes.options()}"
        )


def _unknown(weights: Weights, kind: str) -> str:
    """The error for tensors of no network: the misfits to the nearest one, or the contents of the file if none is near.

    It suggests no options: with them the same tensors would be missing or unknown.
    """
    refused = f"{weights.file} shows no network of 6n+2 layers"
    candidates = _candidates(weights, kind)
    what, wrong, tensors = min(candidates, key=lambda candidate: len(candidate[1]), default=("", [], 0))
    if 0 < len(wrong) * NEARLY <= tensors:
        return f"{refused}; the nearest is {what}, but {listed(wrong)}"
    names = ", ".join([weights.own(name) for name in weights.tensors][:3])
    return (
        f"{refused}: expected 6n+1 convolutions of 3x3 such as conv1.weight, each with a batch norm, and a linear "
        f"layer; it holds {held(weights.tensors)}; its names begin {names}"
    )


def _candidates(weights: Weights, kind: str) -> list[tuple[str, list[str], int]]:
    """Networks with about as many convolutions, as text; the misfits to each; and its number of tensors."""
    convolutions = layers_of(weights.tensors).convolutions
    if not convolutions:
        return []
    if kind != "plain":
        kind = "residual"  # the metadata of a file may hold any word
    fewer, width = (len(convolutions) - 1) // 6, weight_of(weights.tensors, convolutions[0]).shape[0] // filters(1)[0]
    depths = [depth for depth in (6 * fewer + 2, 6 * fewer + 8) if 8 <= depth <= DEEPEST]
    shortcuts: tuple[Any, ...] = ("none",) if kind == "plain" else ("A", "B", "C")
    candidates = []
    for depth, shortcut in product(depths, shortcuts):
        state = _shapes(kind, depth, shortcut, {"width": min(max(width, 1), WIDEST)})
        candidates.append((_description(kind, depth, shortcut), misfits(state, weights), len(state)))
    return candidates


def _shapes(kind: Any, depth: int, shortcut: Any, built: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The state of a network on the meta device, without memory: the metadata of a file may hold any width."""
    with torch.device("meta"):
        model: CifarNetwork = networks.network(kind, depth, shortcut, seed=None, **built)
        return model.state_dict()


def _description(kind: str, depth: int, shortcut: str) -> str:
    return f"{kind}-{depth}" + (f" with shortcut {shortcut}" if kind == "residual" else "")


def _notes(weights: Weights, match: Matched, certain: bool) -> list[str]:
    notes = []
    if not certain:
        notes.append("taken for a residual network; a plain one has the same tensors: --network plain reads it as such")
    if match.by_order:
        order = "by shape and by the order of the names" if weights.sorted else "by shape and order"
        other = next((f"{weights.own(own)} is our {name}" for name, own in match.names.items() if own != name), "")
        notes.append(f"read {order}, since some names are not ours: {other}")
    if weights.outside:
        more = f" and {len(weights.outside) - 3} more" if len(weights.outside) > 3 else ""
        notes.append(f"ignored, as not part of the network: {', '.join(map(shown, weights.outside[:3]))}{more}")
    if weights.channels:
        mean, std = (", ".join(f"{value:.4g}" for value in numbers) for numbers in weights.channels)
        notes.append(f"normalized as the file says: mean {mean}, std {std}")
    return notes
