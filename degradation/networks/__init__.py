"""The networks: a kind, a depth and a shortcut option -> a module with its Layout and weights from a seed."""

import operator
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias, TypeVar, cast, get_args, overload

import torch
from pydantic import ValidationError

from degradation.errors import UserError
from degradation.networks.cifar import CifarNetwork
from degradation.networks.imagenet import ImageNetNetwork
from degradation.networks.weights import draw_weights
from degradation.spec import BlockSpec, Family, Initialization, Network, Norm, RunSpec, Shortcut, StrideOn, StudySpec
from degradation.spec.validation import refusal, suggestion

AnyNetwork: TypeAlias = CifarNetwork | ImageNetNetwork
N = TypeVar("N", CifarNetwork, ImageNetNetwork)

FIELDS: dict[Family, tuple[str, ...]] = {
    "cifar": ("norm", "width", "initialization", "block", "classes"),
    "imagenet": ("stride_on", "classes"),
}
"""Fields of a network of the family other than kind, depth, shortcut and seed."""
CHOICES: dict[str, tuple[str, ...]] = {
    "norm": get_args(Norm),
    "initialization": get_args(Initialization),
    "stride_on": get_args(StrideOn),
}
COUNTS = {"width": "width", "classes": "number of classes"}


@overload
def network(
    kind: Network,
    depth: int,
    shortcut: Shortcut | None = None,
    *,
    family: Literal["cifar"] = "cifar",
    seed: int | None = 0,
    norm: Norm = "batch",
    width: int = 1,
    initialization: Initialization = "he",
    block: BlockSpec | Mapping[str, Any] = ...,
    classes: int = 10,
) -> CifarNetwork: ...


@overload
def network(
    kind: Network,
    depth: int,
    shortcut: Shortcut | None = None,
    *,
    family: Literal["imagenet"],
    seed: int | None = 0,
    stride_on: StrideOn = "3x3",
    classes: int = 1000,
) -> ImageNetNetwork: ...


def network(
    kind: Network,
    depth: int,
    shortcut: Shortcut | None = None,
    *,
    family: Family = "cifar",
    seed: int | None = 0,
    **fields: Any,
) -> AnyNetwork:
    """Build a plain or residual network of He et al. 2015. Torch's global random generator is left as it was.

    Parameters
    ----------
    kind : "plain" or "residual"
        Without or with shortcuts.
    depth : int
        Layers with weights. Family cifar: 6n+2, such as 20, 56, 110. Family imagenet: 18, 34, 50, 101, 152.
    shortcut : "A", "B" or "C", optional
        Identity with zero channels, 1x1 convolutions where shapes change, or everywhere (section 4.1). By default A
        in family cifar, B in family imagenet; a plain network has none.
    family : "cifar" or "imagenet"
        Networks of section 4.2, or of Table 1. Depth 50 is one of both families.
    seed : int or None
        The weights are drawn from it; None leaves them for a checkpoint.
    classes : int
        Outputs: 10 in family cifar, 1000 in family imagenet.
    norm, width, initialization, block
        Family cifar: ``norm`` is batch or none; the stages have 16, 32 and 64 filters times ``width``;
        ``initialization`` is he, orthogonal, delta-orthogonal or dirac; ``block`` is a BlockSpec or a mapping such as
        ``{"order": "full"}`` with the variants of He et al. 2016.
    stride_on : "3x3" or "1x1"
        Family imagenet: which convolution of a bottleneck has the stride; the paper's is 1x1.

    Returns
    -------
    torch.nn.Module
        Takes images (N, 3, H, W), returns logits (N, classes).

    Raises
    ------
    ValueError
        A value that does not exist, a depth that the family does not have, or a combination that cannot be built.
    TypeError
        A field that the family does not have.

    Examples
    --------
    >>> import degradation, torch
    >>> model = degradation.network("residual", 20)
    >>> sum(weight.numel() for weight in model.parameters())
    269722
    >>> model(torch.randn(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    default: Shortcut = "A" if family == "cifar" else "B"
    option: Shortcut = shortcut or ("none" if kind == "plain" else default)
    _known("network", kind, get_args(Network))
    _known("shortcut", option, get_args(Shortcut))
    _known("family", family, get_args(Family))
    built = {"kind": kind, "depth": _whole("depth", depth), "shortcut": option} | _checked(family, fields)
    drawn_from = None if seed is None else _whole("seed", seed, least=0)
    with _generator_untouched():
        made = ImageNetNetwork(**built) if family == "imagenet" else CifarNetwork(**built)
    if drawn_from is not None:
        draw_weights(made, drawn_from, fields.get("initialization", "he"))
        if isinstance(made, CifarNetwork):
            made.begin(drawn_from)
    return made


def _checked(family: Family, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields as the family takes them."""
    for name in fields:
        if name not in FIELDS[family]:
            theirs = f"those of family {family} are {', '.join(FIELDS[family])}"
            raise TypeError(f"network has no field {name}; {theirs}{suggestion(name, FIELDS[family])}")
    for name in CHOICES.keys() & fields.keys():
        _known(name, fields[name], CHOICES[name])
    checked = dict(fields) | {name: _whole(COUNTS[name], fields[name], least=1) for name in COUNTS if name in fields}
    if checked.get("block") is not None:
        checked["block"] = _block(checked["block"], fields.get("norm", "batch"))
    return checked


def _block(given: object, norm: Norm) -> BlockSpec:
    if isinstance(given, BlockSpec):
        return given
    if not isinstance(given, Mapping):
        raise ValueError(f"the block is a BlockSpec or a mapping such as {{'order': 'full'}}, not {given!r}")
    fields = {"norm": norm, "block": dict(given)}
    try:
        return StudySpec.model_validate(fields).block
    except ValidationError as error:
        line = refusal(error, fields, lambda path, message: "network" if path[-1] in message else ".".join(path))
        raise ValueError(str(line)) from None


def _known(what: str, given: object, choices: tuple[str, ...]) -> None:
    if given not in choices:
        raise ValueError(f"the {what} is one of {', '.join(choices)}, not {given!r}")


def cifar_for_run(run: RunSpec, *, init_weights: bool = True) -> CifarNetwork:
    """``for_run`` for what takes networks of the CIFAR family apart; UserError for a run of another family."""
    if run.family != "cifar":
        raise UserError(f"{run.run_id} is of the ImageNet family: expected a network of the CIFAR family")
    return cast(CifarNetwork, for_run(run, init_weights=init_weights))


def _whole(what: str, given: Any, least: int | None = None) -> int:
    """The number as an int. ValueError if it is no whole one, or too small."""
    try:
        number = operator.index(given)
    except TypeError:
        number = None
    if number is None or (least is not None and number < least):
        bound = "" if least is None else f" of at least {least}"
        raise ValueError(f"the {what} is a whole number{bound}, not {given!r}")
    return number


@contextmanager
def _generator_untouched() -> Iterator[None]:
    """Torch's modules draw weights as they are made, which ours replace: its generator is put back afterwards."""
    default = torch.get_default_device()
    with torch.random.fork_rng([default] if default.type == "cuda" else []):
        yield


def for_run(run: RunSpec, *, init_weights: bool = True) -> AnyNetwork:
    """The network of a run, with its initial weights, or with arbitrary ones where ``init_weights`` is False."""
    seed, classes = run.seed if init_weights else None, run.dataset.classes
    kind, stride_on = (run.network, run.depth, run.shortcut), run.block.stride_on
    if run.family == "imagenet":
        return network(*kind, family="imagenet", seed=seed, stride_on=stride_on, classes=classes)
    return network(
        *kind,
        seed=seed,
        norm=run.norm,
        width=run.width,
        initialization=run.initialization,
        block=run.block,
        classes=classes,
    )
