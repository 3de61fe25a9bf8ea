"""Batch norm with the statistics of all processes' images: on for training, off while each process evaluates."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch.distributed as dist
from torch import nn

from degradation.networks.layout import norms


def synchronized(network: nn.Module) -> None:
    """Replace every batch norm, in place, by torch's synchronized one with the same weights and buffers."""
    nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]


@contextmanager
def local_batch_statistics(network: nn.Module) -> Iterator[None]:
    """Normalize by the images of this process only: processes evaluate different batches, and not equally many."""
    synced_norms: list[Any] = [norm for norm in norms(network) if hasattr(norm, "process_group")]
    before = [norm.process_group for norm in synced_norms]
    for norm in synced_norms:
        norm.process_group = _single_process_group()
    try:
        yield
    finally:
        for norm, group in zip(synced_norms, before, strict=True):
            norm.process_group = group


@cache
def _single_process_group() -> dist.ProcessGroup:
    """The group of this process alone; its first call needs all processes."""
    group, _ = dist.new_subgroups(group_size=1)
    return group
