"""Batch norm whose statistics are those of the images of all processes: on for training, off while each evaluates."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch.distributed as dist
from torch import nn

from degradation.networks.layout import norms


def synchronized(network: nn.Module) -> None:
    """Replace, in place, every batch norm by torch's synchronized one with the same weights and buffers."""
    nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]


@contextmanager
def local_batch_statistics(network: nn.Module) -> Iterator[None]:
    """Every process normalizes by what it sees itself: they evaluate different batches, and not equally many."""
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
    """The group of this process alone; all processes must come to its first call."""
    group, _ = dist.new_subgroups(group_size=1)
    return group
