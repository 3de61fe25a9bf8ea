"""A network -> the same network in place with blocks deleted or in another order, where shapes allow it."""

from collections.abc import Iterable, Sequence
from typing import cast

from torch import Tensor, nn

from degradation.networks.blocks import BasicBlock
from degradation.networks.cifar import CifarNetwork
from degradation.networks.layout import Block

BRANCH_OFF, SKIPPED, IMPOSSIBLE = "branch off", "block skipped", "not possible: shapes differ"


class ShortcutOnly(nn.Module):
    """A residual block without its branch: y = ReLU(shortcut(x)), as Veit et al. 2016 delete one (section 4.1)."""

    def __init__(self, shortcut: nn.Module) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(self.shortcut(x))
        return y


def module_of(network: CifarNetwork, block: Block) -> BasicBlock:
    """The module of a block."""
    return cast(BasicBlock, network.get_submodule(block.name))


def keeps_shape(network: CifarNetwork, block: Block) -> bool:
    """Whether a block's output has the shape of its input: all but the first of stages 2 and 3."""
    module = module_of(network, block)
    return module.conv1.stride == (1, 1) and module.conv1.in_channels == module.conv2.out_channels


def keeping_shape(network: CifarNetwork) -> tuple[Block, ...]:
    """The blocks that keep their input's shape, in order: the same ones in the two networks of a matched pair."""
    return tuple(block for block in network.layout.blocks if keeps_shape(network, block))


def deletion_method(network: CifarNetwork, block: Block) -> str:
    """How to delete a block: a residual one loses its branch; a plain one is skipped, which needs equal shapes."""
    if block.shortcut is not None:
        return BRANCH_OFF
    return SKIPPED if keeps_shape(network, block) else IMPOSSIBLE


def delete(network: CifarNetwork, numbers: Iterable[int]) -> None:
    """Delete blocks by their numbers (1-based), in place. Raises ValueError for one that cannot be deleted."""
    for number in numbers:
        block = network.layout.blocks[number - 1]
        shortcut = module_of(network, block).downsample
        if shortcut is None and not keeps_shape(network, block):
            raise ValueError(f"block {number} ({block.name}) changes the shape: a plain network cannot do without it")
        network.set_submodule(block.name, nn.Identity() if shortcut is None else ShortcutOnly(shortcut))


def reorder(network: CifarNetwork, order: Sequence[int]) -> None:
    """Reorder the blocks of a network in place: block ``order[p]`` (1-based) moves to place p.

    ``order`` is a permutation of all blocks. Raises ValueError if a block would leave its stage, or if a block that
    changes the shape would move.
    """
    blocks = network.layout.blocks
    if sorted(order) != [block.number for block in blocks]:
        raise ValueError(f"expected each of the {len(blocks)} blocks once, not {list(order)}")
    moves = [(place, blocks[number - 1]) for place, number in zip(blocks, order, strict=True) if place.number != number]
    for place, block in moves:
        if place.stage != block.stage or not (keeps_shape(network, place) and keeps_shape(network, block)):
            raise ValueError(f"block {block.number} does not fit the place of block {place.number}")
    for name, module in [(place.name, module_of(network, block)) for place, block in moves]:
        network.set_submodule(name, module)
