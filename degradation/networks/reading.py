"""Weights of a file and given fields -> their network; fields that are not given come from the file."""

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

BUILT = ("norm", "width", "initialization", "block")
"""What a file of ours says besides of its network."""
DEEPEST = 1202  # of the networks that a file is compared with where it shows none; the deepest of the paper
WIDEST = 100  # times the paper's filters
NEARLY = 4  # a file is nearly of a network where at most one in so many of its tensors does not fit


@dataclass(frozen=True, kw_only=True)
class RequestedFields:
    """The given fields of the network."""

    network: str | None = None
    depth: str | None = None
    shortcut: str | None = None


@dataclass(frozen=True, kw_only=True)
class Read:
    """A network with the weights of a file; ``what`` it is, and ``notes`` on how the file was read, as text."""

    network: CifarNetwork
    what: str
    notes: tuple[str, ...]


def network_of(weights: Weights, asked: RequestedFields) -> Read:
    """The network with these weights. A file of ours says norm, width and block itself.

    Raises UserError if there is no such network, where the file shows or says that it is of another, or where any
    tensor does not fit; nothing is built before.
    """
    kind, depth, shortcut, built = _resolve_network(weights, _checked(asked))
    what = _words(kind, depth, shortcut)
    fields: Any = (kind, depth, shortcut)  # checked there
    try:
        shapes = _shapes(kind, depth, shortcut, built)
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"{weights.file} cannot be read as {shown(what)}: {shown(str(error))}") from error
    matched(shapes, weights, what)
    made: CifarNetwork = networks.network(*fields, seed=None, **built)
    found = fill(made, weights, what)
    certain = bool(asked.network or weights.run or shortcut != "A")
    return Read(network=made, what=what, notes=tuple(_notes(weights, found, certain)))


def _checked(asked: RequestedFields) -> dict[str, Any]:
    """The given fields, by the names of a run's fields."""
    choices = {"network": get_args(Network), "shortcut": get_args(Shortcut)[::-1]}
    given: dict[str, Any] = {name: value for name, value in vars(asked).items() if value is not None}
    for name, known in choices.items():
        if name in given and given[name] not in known:
            raise UserError(f"--{name}: expected {', '.join(sorted(known))}, not {given[name]!r}")
    if asked.depth is not None:
        if not asked.depth.isdecimal():
            raise UserError(f"--depth: expected a whole number of layers, 6n+2, not {asked.depth!r}")
        try:
            given["depth"] = valid_depth(int(asked.depth))
        except ValueError as error:
            raise UserError(f"--depth {asked.depth[:20]}: {error}") from error
    if given.get("network") == "plain":
        given.setdefault("shortcut", "none")
    return given


def _resolve_network(weights: Weights, asked: dict[str, Any]) -> tuple[str, int, str, dict[str, Any]]:
    """Kind, depth, shortcut and the other fields: from the given ones, the file's metadata and its tensors."""
    seen = looks(weights.tensors)
    if reason := of_another_family(weights.tensors):
        raise UserError(f"{weights.file} is of no network that can be probed: {reason}")
    if seen and not weights.run and (reason := without_norms(weights.tensors)):
        raise UserError(f"{weights.file} is of no network that can be probed: {reason}")
    shows = {"depth": seen.depth, "shortcut": seen.shortcut} if seen else {}
    says = {name: weights.run[name] for name in ("network", "depth", "shortcut") if name in weights.run}
    meant = {"network": "residual"} | shows | says | asked
    if meant["network"] == "plain" and "shortcut" not in asked | says:
        meant["shortcut"] = "none"
    _agreeing(weights, meant, says, seen)
    if "depth" not in meant:
        raise UserError(_unknown(weights, meant["network"]))
    built = {name: weights.run[name] for name in BUILT if name in weights.run}
    if not weights.run and seen:
        built["width"] = seen.width
    return meant["network"], meant["depth"], meant.get("shortcut", "A"), built


def _agreeing(weights: Weights, meant: Mapping[str, Any], says: Mapping[str, Any], seen: Sizes | None) -> None:
    """UserError if the network meant is another than the file says, or shows."""
    if any(meant[name] != value for name, value in says.items()):
        options = [f"--{name} {shown(str(value))[:20]}" for name, value in says.items() if value != "none"]
        raise UserError(f"{weights.file} says that it is of another network: try {' '.join(options)}")
    if seen is None:
        if weights.run:
            raise UserError(_unknown(weights, meant["network"]))
        return
    if weights.run.get("width", seen.width) != seen.width:
        width = shown(str(weights.run["width"]))[:20]
        raise UserError(f"{weights.file} says width {width}, and its tensors are of width {seen.width}: is it damaged?")
    shortcut = "A" if meant.get("shortcut") == "none" else meant.get("shortcut")
    if (meant["depth"], shortcut) != (seen.depth, seen.shortcut):
        raise UserError(
            f"{weights.file} is of another network: these look like depth {seen.depth}: try {seen.options()}"
        )


def _unknown(weights: Weights, kind: str) -> str:
    """That no network can be told from the tensors: what keeps them from one, or what they are of where none is near.

    Options could not help: with them the same tensors would be missing or unknown.
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
    """Networks of about as many convolutions, as text; what does not fit each; and how many tensors it has."""
    convolutions = layers_of(weights.tensors).convolutions
    if not convolutions:
        return []
    if kind != "plain":
        kind = "residual"  # a file of ours may say anything
    fewer, width = (len(convolutions) - 1) // 6, weight_of(weights.tensors, convolutions[0]).shape[0] // filters(1)[0]
    depths = [depth for depth in (6 * fewer + 2, 6 * fewer + 8) if 8 <= depth <= DEEPEST]
    shortcuts: tuple[Any, ...] = ("none",) if kind == "plain" else ("A", "B", "C")
    found = []
    for depth, shortcut in product(depths, shortcuts):
        state = _shapes(kind, depth, shortcut, {"width": min(max(width, 1), WIDEST)})
        found.append((_words(kind, depth, shortcut), misfits(state, weights), len(state)))
    return found


def _shapes(kind: Any, depth: int, shortcut: Any, built: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors of a network without memory: a file may say any width."""
    with torch.device("meta"):
        made: CifarNetwork = networks.network(kind, depth, shortcut, seed=None, **built)
        return made.state_dict()


def _words(kind: str, depth: int, shortcut: str) -> str:
    return f"{kind}-{depth}" + (f" with shortcut {shortcut}" if kind == "residual" else "")


def _notes(weights: Weights, found: Matched, certain: bool) -> list[str]:
    notes = []
    if not certain:
        notes.append("taken for a residual network; a plain one has the same tensors: --network plain reads it as such")
    if found.by_order:
        order = "by shape and by the order of the names" if weights.sorted else "by shape and order"
        other = next((f"{weights.own(own)} is our {name}" for name, own in found.names.items() if own != name), "")
        notes.append(f"read {order}, since some names are not ours: {other}")
    if weights.outside:
        more = f" and {len(weights.outside) - 3} more" if len(weights.outside) > 3 else ""
        notes.append(f"ignored, as not part of the network: {', '.join(map(shown, weights.outside[:3]))}{more}")
    if weights.channels:
        mean, std = (", ".join(f"{value:.4g}" for value in numbers) for numbers in weights.channels)
        notes.append(f"normalized as the file says: mean {mean}, std {std}")
    return notes
