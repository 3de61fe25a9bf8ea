"""The two families of networks of He et al. 2015: their depths and the fields that each supports."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from degradation.spec.block import BlockSpec, Norm
from degradation.spec.fields import valid_depth

Family = Literal["cifar", "imagenet"]


@dataclass(frozen=True, kw_only=True)
class Table1:
    """One column of Table 1: number of blocks in conv2_x to conv5_x, and their kind."""

    blocks: tuple[int, int, int, int]
    bottleneck: bool


TABLE_1 = {
    18: Table1(blocks=(2, 2, 2, 2), bottleneck=False),
    34: Table1(blocks=(3, 4, 6, 3), bottleneck=False),
    50: Table1(blocks=(3, 4, 6, 3), bottleneck=True),
    101: Table1(blocks=(3, 4, 23, 3), bottleneck=True),
    152: Table1(blocks=(3, 8, 36, 3), bottleneck=True),
}
"""The ImageNet family: 18 and 34 of basic blocks, the others of bottlenecks."""
IMAGENET_FILTERS = (64, 128, 256, 512)  # of the 3x3 layers in conv2_x to conv5_x
EXPANSION = 4  # filters of a bottleneck's last layer over those of its 3x3 layer
DEEPEST_PLAIN = 50  # the paper's plain networks have 18 and 34 layers; 50 is the first of bottlenecks


def depth_of(family: Family, depth: int) -> int:
    """``depth`` if the family has it; ValueError naming valid ones otherwise."""
    if family == "cifar":
        return valid_depth(depth)
    if depth not in TABLE_1:
        raise ValueError(f"depth {depth} is not of the ImageNet family; its depths are {_listed(TABLE_1)}")
    return depth


def has_plain(family: Family, depths: Iterable[int]) -> None:
    """ValueError if the family has no plain network of one of the depths."""
    too_deep = [depth for depth in depths if family == "imagenet" and depth > DEEPEST_PLAIN]
    if too_deep:
        valid = _listed(depth for depth in TABLE_1 if depth <= DEEPEST_PLAIN)
        raise ValueError(
            f"a plain network of the ImageNet family has {valid} layers, not {too_deep[0]}: "
            "take other depths, or networks residual alone"
        )


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def builds(family: Family, *, norm: Norm, width: int, initialization: str, block: BlockSpec) -> None:
    """ValueError, naming the field, if the family cannot be built with these values."""
    if family == "cifar":
        if block.stride_on != "3x3":
            raise ValueError("stride_on is a bottleneck's: take family imagenet, or leave it out")
        return
    own = {"norm": (norm, "batch"), "width": (width, 1), "initialization": (initialization, "he")}
    own |= {name: (getattr(block, name), field.default) for name, field in BlockSpec.model_fields.items()}
    for name, (value, only) in own.items():
        if name != "stride_on" and value != only:
            raise ValueError(f"the ImageNet family is built with {name} {only} alone, not {value}: take family cifar")
