"""The tensors of a network under any names -> its layers in forward order, and which of our networks they are."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from degradation.networks.wrappers import scopes
from degradation.spec import Shortcut
from degradation.spec.grid import filters

NORM = {"weight", "bias", "running_mean", "running_var"}
KIND_OF_MODULE = re.compile(r"convolution|conv|batch_?norm|norm|bn|_", re.IGNORECASE)
LARGEST = 2**30  # numbers in a network; 1202 layers have 2^24


@dataclass(frozen=True, kw_only=True)
class Layers:
    """Names of modules in forward order; ``norms`` has that of each convolution; empty if they do not pair."""

    convolutions: tuple[str, ...]
    """Convolutions of 3x3; the input of the first are the images."""
    projections: tuple[str, ...]
    """Convolutions of 1x1."""
    linear: tuple[str, ...]
    norms: Mapping[str, str]
    others: tuple[str, ...]
    """Names of tensors that belong to none of these."""

    def pairs(self, theirs: "Layers") -> Iterator[tuple[str, str]]:
        """Each module, and that at the same place in other layers with the same counts."""
        for own, other in ((self.convolutions, theirs.convolutions), (self.projections, theirs.projections)):
            yield from zip(own, other, strict=True)
            yield from ((self.norms[a], theirs.norms[b]) for a, b in zip(own, other, strict=True))
        yield from zip(self.linear, theirs.linear, strict=True)

    @property
    def counts(self) -> tuple[int, ...]:
        """The number of each."""
        return len(self.convolutions), len(self.projections), len(self.linear), len(self.norms), len(self.others)


def layers_of(tensors: Mapping[str, Tensor]) -> Layers:
    """The layers of tensors in forward order, recognized by shapes and by the last piece of their names."""
    modules: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        module, _, leaf = name.rpartition(".")
        modules[module][leaf] = tensor
    kinds: dict[str, list[str]] = {kind: [] for kind in ("3x3", "1x1", "linear", "norm", "other")}
    for module, parts in modules.items():
        kinds[_kind(parts)].append(module)
    convolutions = sorted(kinds["3x3"], key=lambda module: modules[module]["weight"].shape[1] != 3)
    named = set(kinds["3x3"] + kinds["1x1"])
    return Layers(
        convolutions=tuple(convolutions),
        projections=tuple(kinds["1x1"]),
        linear=tuple(kinds["linear"]),
        norms=_norms([module for module in modules if module in named], kinds["norm"]),
        others=tuple(f"{module}.{leaf}".removeprefix(".") for module in kinds["other"] for leaf in modules[module]),
    )


def _kind(parts: Mapping[str, Tensor]) -> str:
    if parts.keys() == NORM:
        return "norm"
    if "weight" not in parts or not parts.keys() <= {"weight", "bias"}:
        return "other"
    shape = parts["weight"].shape
    if len(shape) == 2:
        return "linear"
    return {"3x3": "3x3", "1x1": "1x1"}.get("x".join(map(str, shape[2:])), "other")


def _norms(convolutions: list[str], norms: list[str]) -> dict[str, str]:
    """The norm of each convolution, paired inside the smallest module that holds equally many of both.

    They are paired by their names without ``conv`` and ``bn`` if these are equal, else by their order.
    Empty if one is left over.
    """
    pairs: dict[str, str] = {}
    place = {name: number for number, name in enumerate((*convolutions, *norms))}
    inside: dict[str, list[str]] = defaultdict(list)
    for name in place:
        inside[next(scopes(name), "")].append(name)
    for level in range(max((scope.count(".") for scope in inside), default=0), -1, -1):
        for scope in [scope for scope in inside if scope.count(".") == level]:
            names = sorted(inside[scope], key=place.__getitem__)
            own = [name for name in names if place[name] < len(convolutions)]
            if 2 * len(own) == len(names):
                pairs |= _paired(own, names[len(own) :])
            elif scope:
                inside[next(scopes(scope[:-1]), "")] += names
    return pairs if len(pairs) == len(convolutions) == len(norms) else {}


def _paired(convolutions: list[str], norms: list[str]) -> dict[str, str]:
    own, theirs = ({KIND_OF_MODULE.sub("", name): name for name in names} for names in (convolutions, norms))
    if len(own) == len(convolutions) and own.keys() == theirs.keys():
        return {name: theirs[label] for label, name in own.items()}
    return dict(zip(convolutions, norms, strict=True))


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The network that tensors look like; ``shortcut`` is A without projections, as a plain network has the same."""

    depth: int
    shortcut: Shortcut
    width: int

    def options(self) -> str:
        """The options of the command line for it."""
        also = " (or --network plain)" if self.shortcut == "A" else ""
        return f"--depth {self.depth} --network residual --shortcut {self.shortcut}{also}"


def looks(tensors: Mapping[str, Tensor]) -> Sizes | None:
    """The network of 6n+2 layers with as many convolutions of 3x3 and of 1x1; None if there is none."""
    layers = layers_of(tensors)
    blocks, remainder = divmod(len(layers.convolutions) - 1, 2)
    if remainder or blocks < 3 or blocks % 3:
        return None
    projections = [name for name in layers.projections if ".transform." not in f".{name}."]  # without our gates
    options: dict[int, Shortcut] = {0: "A", 2: "B", blocks: "C"}
    if (shortcut := options.get(len(projections))) is None:
        return None
    width = min(weight_of(tensors, name).shape[0] for name in layers.convolutions) // filters(1)[0]
    return Sizes(depth=2 * blocks + 2, shortcut=shortcut, width=max(width, 1))


def weight_of(tensors: Mapping[str, Tensor], module: str) -> Tensor:
    """The weight of a module; the outermost module has no name."""
    return tensors[name if (name := f"{module}.weight") in tensors else "weight"]


def without_norms(tensors: Mapping[str, Tensor]) -> str:
    """The reason why tensors with convolutions are of no network with batch norms; empty if they are of one."""
    if any(name.endswith(("running_mean", "running_var")) for name in tensors):
        return ""
    scales = (tensor for name, tensor in tensors.items() if f".{name}".endswith(".weight") and tensor.numel() > 1)
    if any(tensor.dim() in (1, 3) for tensor in scales):  # a PReLU has one number
        return "its norm layers have no running mean and variance, as batch norms have, which alone are read"
    return "it has no norm layers; a network without them is read of a file of ours alone, which says how it is built"


def held(tensors: Mapping[str, Tensor]) -> str:
    """The number of layers of each kind that the tensors belong to, as text."""
    shapes = [tensor.shape for name, tensor in tensors.items() if f".{name}".endswith(".weight")]
    kernels = Counter(f"{shape[2]}x{shape[3]}" for shape in shapes if len(shape) == 4)
    sizes = ", ".join(f"{number} of {kernel}" for kernel, number in kernels.most_common(3))
    convolutions = _several(kernels.total(), "convolution") + (f" ({sizes})" if sizes else "")
    norms = sum(name.endswith("running_var") for name in tensors)
    linear = sum(len(shape) == 2 for shape in shapes)
    return f"{convolutions}, {_several(norms, 'batch norm')} and {_several(linear, 'linear layer')}"


def _several(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def of_another_family(tensors: Mapping[str, Tensor]) -> str:
    """The reason why tensors are of no network of the CIFAR family; empty if there is none."""
    layers = layers_of(tensors)
    shapes = [weight_of(tensors, name).shape for name in layers.convolutions]
    times = Counter(shape[0] for shape in shapes if shape[1] != 3)
    widths = sorted(width for width, count in times.items() if count > 1)
    probed = "the CIFAR family 6n+2, which alone is probed, has"
    if len(layers.projections) > len(shapes) - 1 > 0 and all(shape[1] != 1 for shape in shapes):
        return f"it has bottleneck blocks (1x1, 3x3, 1x1); {probed} blocks of two convolutions of 3x3"
    if len(widths) > 3:
        some = ", ".join(map(str, widths[:6]))
        return f"it has {len(widths)} widths, as of so many stages ({some} filters); {probed} three"
    if (numbers := sum(tensor.numel() for tensor in tensors.values())) > LARGEST:
        return f"its shapes say {numbers:.1e} numbers; expected at most {LARGEST:.1e}"
    return ""
