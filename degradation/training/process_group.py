"""The processes that train one network together -> sums, readings and decisions that are equal in all of them."""

import atexit
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from degradation.errors import ProcessGroupLost
from degradation.runtime.distributed import Processes, here, launching
from degradation.runtime.environment import Environment

PATIENCE = timedelta(days=7)  # how long a process waits for its next run, which another command may be training
LEADER = 0

ONE = Processes()
ShouldStop = Callable[[], bool]


@dataclass(frozen=True, kw_only=True)
class ProcessGroup:
    """The processes that share each batch, as one of them sees it.

    All of them call the same methods in the same order. Alone, or if it is not ``connected`` (the share of one process
    is timed), every method returns its argument. Each raises ProcessGroupLost if another process is gone.
    """

    processes: Processes = ONE
    connected: bool = False

    @property
    def count(self) -> int:
        return self.processes.count

    @property
    def rank(self) -> int:
        return self.processes.rank

    @property
    def leads(self) -> bool:
        """Whether this process is rank 0: only rank 0 reads, writes and prints."""
        return self.rank == LEADER

    @torch.no_grad()
    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over the processes, in place: equal bits in each."""
        if self.connected:
            with _together(self):
                dist.all_reduce(tensor)
        return tensor

    @torch.no_grad()
    def sums(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Sum each float32 tensor over the processes, in one message; new tensors of the same memory layout."""
        if not self.connected:
            return list(tensors)
        flat = self.sum(torch.cat([tensor.reshape(-1) for tensor in tensors]))
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        pairs = zip(tensors, parts, strict=True)
        return [torch.empty_like(tensor).copy_(part.view(tensor.shape)) for tensor, part in pairs]

    def gather(self, rows: Tensor) -> Tensor:
        """(n, ...) of each process -> (count n, ...), in the order of the processes."""
        if not self.connected:
            return rows
        everyone = [torch.empty_like(rows) for _ in range(self.count)]
        with _together(self):
            dist.all_gather(everyone, rows.contiguous())
        return torch.cat(everyone)

    def in_turn(self, results: Iterable[Tensor], number: int, nothing: Tensor) -> Iterable[Tensor]:
        """All ``number`` results in order, given this process's: those of items rank, rank + count, ...

        ``nothing`` is the value of a process without an item in the last turn.
        """
        if not self.connected:
            return results
        own = list(results)
        own += [nothing] * (self.turns(number) - len(own))
        everyone = self.gather(torch.stack(own)).reshape(self.count, len(own), *nothing.shape)
        return everyone.transpose(0, 1).flatten(0, 1)[:number].unbind()

    def turns(self, number: int) -> int:
        """Most items of ``number`` that one process has."""
        return -(-number // self.count)

    def same(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the leader's values, in place."""
        if self.connected:
            with _together(self):
                for tensor in tensors:
                    value = tensor.detach().contiguous()
                    dist.broadcast(value, LEADER)
                    tensor.detach().copy_(value)

    def stop(self, own: ShouldStop) -> ShouldStop:
        """Combine ``own`` over all processes: if one has a stop request, all stop."""
        if not self.connected:
            return own

        def any_stops() -> bool:
            together = bool(self.sum(torch.tensor(int(own()))))
            if together and not own():
                signal.raise_signal(signal.SIGTERM)
            return together

        return any_stops

    def hand_out(self, message: object) -> None:
        """Send a message from the leader; ``receive`` returns it in all other processes."""
        if self.connected:
            with _together(self):
                dist.broadcast_object_list([message], LEADER, _waiting())

    def receive(self) -> Any:
        """Wait for the leader's next message and return it."""
        messages: list[Any] = [None]
        with _together(self):
            dist.broadcast_object_list(messages, LEADER, _waiting())
        return messages[0]


ALONE = ProcessGroup()


@contextmanager
def _together(team: ProcessGroup) -> Iterator[None]:
    """Report in one line that another process is gone; torch's own error is the cause."""
    try:
        yield
    except RuntimeError as error:
        why = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise ProcessGroupLost(
            f"one of the {team.count} processes is gone ({why}); what they saved last is kept, and the same command "
            f"continues it: {launching(team.processes)} ...",
            own=team.leads,
        ) from error


@cache
def _waiting() -> Any:
    """The group of all processes for long waits; its first call needs all of them."""
    return dist.new_group(backend="gloo", timeout=PATIENCE)


def connect() -> ProcessGroup:
    """Connect the processes that torchrun started; waits until all of them call it."""
    processes = here()
    if not processes.several:
        return ALONE
    team = ProcessGroup(processes=processes, connected=True)
    if not dist.is_initialized():
        on_cuda = torch.cuda.is_available() and processes.local_count <= torch.cuda.device_count()
        if on_cuda:
            torch.cuda.set_device(processes.local_rank)
        with _together(team):
            dist.init_process_group("cpu:gloo,cuda:nccl" if on_cuda else "gloo")
            _waiting()
        atexit.register(dist.destroy_process_group)
    return team


def team_of(environment: Environment) -> ProcessGroup:
    """The processes that train in this environment: this one alone, or all. RuntimeError if they are not connected."""
    if environment.processes == 1:
        return ALONE
    if not dist.is_initialized():
        raise RuntimeError(f"{environment.processes} processes are to train one network and are not connected")
    return ProcessGroup(processes=here(), connected=True)
