"""A function over buffers that stay in place -> one CUDA graph, replayed without any work of the host."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from degradation.runtime.environment import Environment

Work = Callable[[], Tensor]
Log = Callable[[str], None]

REHEARSALS = 3  # calls before a capture: libraries choose their kernels and allocate what they keep


def cuda_graph(work: Work) -> Work:
    """``work`` as a CUDA graph: called a few times for real, then recorded, which runs nothing.

    The returned function replays it and returns the one tensor that ``work`` returned while it was recorded, with its
    new content. Raises RuntimeError if something in it cannot be captured.
    """
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(REHEARSALS):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # another thread may use the device meanwhile
        result = work()

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay


@dataclass(frozen=True, kw_only=True)
class Capture:
    """Wraps functions for an environment: to be captured at their first call, or left as they are.

    ``rehearsal`` is entered around the calls that a capture needs, and puts back what they change; ``say`` is told
    where a function cannot be captured.
    """

    environment: Environment
    rehearsal: Callable[[], AbstractContextManager[None]]
    say: Log

    def __call__(self, work: Work) -> Work:
        """``work``, captured where the environment says so."""
        if not self.environment.capture:
            return work
        ready: list[Work] = []

        def captured() -> Tensor:
            if not ready:
                ready.append(self._recorded(work))
            return ready[0]()

        return captured

    def _recorded(self, work: Work) -> Work:
        try:
            with self.rehearsal():
                return cuda_graph(work)
        except RuntimeError as error:
            why = str(error).strip().splitlines() or ["no reason given"]
            self.say(f"no CUDA graph ({why[0]}): every step is launched kernel by kernel, with the same results")
            return work
