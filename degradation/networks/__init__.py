"""The networks: a kind, a depth and a shortcut option -> a module with its Layout and weights from a seed."""

import operator
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, cast, get_args, overload

import torch
from pydantic import ValidationError

from degradation.errors import UserError
from degradation.networks.cifar import CifarNetwork
from degradation.networks.imagenet import ImageNetNetwork
from degradation.networks.weights import draw_weights
from degradation.spec import BlockSpec, Family, Initialization, Network, Norm, RunSpec, Shortcut, StrideOn, StudySpec
from degradation.spec.validation import refusal, suggestion

AnyNetwork: TypeAlias = CifarNetwork | ImageNetNetwork

BUILT = ("norm", "width", "initialization", "block")
FIELDS: dict[Family, tuple[str, ...]] = {"cifar": (*BUILT, "classes"), "imagenet": ("stride_on", "classes")}
"""Fields of a network of the family other than kind, depth, shortcut and seed."""
CHOICES = {"norm": get_args(Norm), "initialization": get_args(Initialization), "stride_on": get_args(StrideOn)}
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
    arguments = {"kind": kind, "depth": _whole("depth", depth), "shortcut": option} | _checked(family, fields)
    seed = None if seed is None else _whole("seed", seed, least=0)
    # Torch's modules draw weights when they are created, which ours replace: its generator is restored.
    device = torch.get_default_device()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        model = ImageNetNetwork(**arguments) if family == "imagenet" else CifarNetwork(**arguments)
    if seed is not None:
        draw_weights(model, seed, fields.get("initialization", "he"))
        if isinstance(model, CifarNetwork):
            model.begin(seed)
    return model


def _checked(family: Family, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The validated fields as arguments of the family's class."""
    for name in fields:
        if name not in FIELDS[family]:
            valid = f"those of family {family} are {', '.join(FIELDS[family])}"
            raise TypeError(f"network has no field {name}; {valid}{suggestion(name, FIELDS[family])}")
    for name in CHOICES.keys() & fields.keys():
        _known(name, fields[name], CHOICES[name])
    checked = dict(fields) | {name: _whole(COUNTS[name], fields[name], least=1) for name in COUNTS if name in fields}
    if checked.get("block") is not None:
        checked["block"] = _block(checked["block"], fields.get("norm", "batch"))
    return checked


def _block(block: object, norm: Norm) -> BlockSpec:
    if isinstance(block, BlockSpec):
        return block
    if not isinstance(block, Mapping):
        raise ValueError(f"the block is a BlockSpec or a mapping such as {{'order': 'full'}}, not {block!r}")
    fields = {"norm": norm, "block": dict(block)}
    try:
        return StudySpec.model_validate(fields).block
    except ValidationError as error:
        line = refusal(error, fields, lambda path, message: "network" if path[-1] in message else ".".join(path))
        raise ValueError(str(line)) from None


def _known(field: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"the {field} is one of {', '.join(choices)}, not {value!r}")


def cifar_for_run(run: RunSpec, *, init_weights: bool = True) -> CifarNetwork:
    """``for_run`` for code that needs the CIFAR family; UserError for a run of another family."""
    if run.family != "cifar":
        raise UserError(f"{run.run_id} is of the ImageNet family: expected a network of the CIFAR family")
    return cast(CifarNetwork, for_run(run, init_weights=init_weights))


def _whole(field: str, value: Any, least: int | None = None) -> int:
    """The value as an int; ValueError if it is not a whole number, or too small."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or (least is not None and number < least):
        bound = "" if least is None else f" of at least {least}"
        raise ValueError(f"the {field} is a whole number{bound}, not {value!r}")
    return number


def for_run(run: RunSpec, *, init_weights: bool = True) -> AnyNetwork:
    """The network of a run, with its initial weights, or with arbitrary ones if ``init_weights`` is False."""
    seed, classes = run.seed if init_weights else None, run.dataset.classes
    kind, stride_on = (run.network, run.depth, run.shortcut), run.block.stride_on
    if run.family == "imagenet":
        return network(*kind, family="imagenet", seed=seed, stride_on=stride_on, classes=classes)
    fields: Any = {name: getattr(run, name) for name in BUILT}
    model: CifarNetwork = network(*kind, seed=seed, classes=classes, **fields)
    return model
