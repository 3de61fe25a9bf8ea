"""A function over buffers that stay in place -> one CUDA graph, replayed without any work of the host."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from degradation.runtime.environment import Environment

Work = Callable[[], Tensor]
Log = Callable[[str], None]

REHEARSALS = 3  # calls before a capture: libraries choose their kernels and allocate their buffers


def cuda_graph(work: Work) -> Work:
    """Capture ``work`` as a CUDA graph, after a few real calls; the capture itself runs nothing.

    The returned function replays the graph and returns the tensor of the capture with its new content. Raises
    RuntimeError if a part of ``work`` cannot be captured.
    """
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(REHEARSALS):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # another thread may use the device
        result = work()

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay


@dataclass(frozen=True, kw_only=True)
class Capture:
    """Wraps functions for an environment: they are captured at their first call, or left unchanged.

    ``rehearsal`` is entered around the calls that a capture needs, and reverts their changes; ``say`` gets a line if a
    function cannot be captured.
    """

    environment: Environment
    rehearsal: Callable[[], AbstractContextManager[None]]
    say: Log

    def __call__(self, work: Work) -> Work:
        """``work``, captured if the environment captures."""
        if not self.environment.capture:
            return work
        captured = cache(lambda: self._captured(work))
        return lambda: captured()()

    def _captured(self, work: Work) -> Work:
        try:
            with self.rehearsal():
                return cuda_graph(work)
        except RuntimeError as error:
            why = (str(error).strip().splitlines() or ["no reason given"])[0]
            self.say(f"no CUDA graph ({why}): every step is launched kernel by kernel, with the same results")
            return work
