"""torchrun's environment variables -> the rank and number of processes, and what they may share."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from degradation.errors import UserError

if TYPE_CHECKING:
    from degradation.spec import RunSpec

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""torchrun sets them all; a scheduler that sets only some of them starts unconnected processes."""


@dataclass(frozen=True, kw_only=True)
class Processes:
    """The processes that train one network together; ``rank`` is the number of this one among ``count``."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1
    """How many of them are on this machine; ``local_rank`` is the number of this one there, and of its CUDA device."""

    @property
    def several(self) -> bool:
        return self.count > 1


def here(variables: Mapping[str, str] | None = None) -> Processes:
    """This process as torchrun describes it; a single process if torchrun did not start it."""
    environment = os.environ if variables is None else variables
    if any(name not in environment for name in VARIABLES):
        return Processes()
    rank, count, local_rank, local_count = (int(environment[name]) for name in VARIABLES[:4])
    return Processes(rank=rank, count=count, local_rank=local_rank, local_count=local_count)


def launching(processes: Processes) -> str:
    """The start of the command line, without the arguments of the command."""
    if not processes.several:
        return "degradation"
    one_machine = processes.count == processes.local_count
    return f"torchrun --nproc-per-node {processes.local_count} {'' if one_machine else '... '}-m degradation"


def check_shares(run: "RunSpec", count: int, sync_batch_norm: bool) -> None:
    """UserError if ``count`` processes cannot train the run without changing what it is."""
    recipe = run.recipe
    if recipe.batch % count:
        raise UserError(f"{count} processes: recipe.batch {recipe.batch} cannot be divided evenly among them")
    if run.norm != "batch":
        return
    if sync_batch_norm and recipe.ghost_batches > 1:
        raise UserError(
            f"--sync-batch-norm normalizes over the whole batch, and recipe.ghost_batches is {recipe.ghost_batches}: "
            "remove one"
        )
    if recipe.ghost_batches % count and not sync_batch_norm:
        raise UserError(
            f"{count} processes: the number of parts in which batch norm sees a batch, recipe.ghost_batches, is "
            f"{recipe.ghost_batches} in this study and no multiple of {count}: take --name NEW with "
            f"--set recipe.ghost_batches={count}, another number of processes, or --sync-batch-norm where it is 1"
        )
