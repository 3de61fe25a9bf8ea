"""The processes that torchrun started -> one leader, and others that take part in its work until it ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from degradation.errors import ProcessGroupLost, UserError
from degradation.runtime.distributed import here
from degradation.runtime.signals import stop_requests

if TYPE_CHECKING:
    from degradation.training.process_group import ProcessGroup


@contextmanager
def leading() -> Iterator[bool]:
    """Yield whether this process does the work inside; any other process has finished its part before the yield.

    Raises ProcessGroupLost if the processes cannot continue together.
    """
    if not here().several:
        yield True
        return
    from degradation.training.process_group import connect  # a single process does not import torch here

    team = connect()
    if not team.leads:
        _taking_part(team)
        yield False
        return
    try:
        yield True
    except ProcessGroupLost:
        raise  # the others are in the middle of a step, or gone: they end like this process
    except BaseException:
        team.hand_out(None)
        raise
    team.hand_out(None)


def _taking_part(team: "ProcessGroup") -> None:
    from degradation.training.execute import assist

    with stop_requests() as stop:
        try:
            assist(team, stop)
        except ProcessGroupLost:
            raise
        except Exception as error:
            message = (str(error).strip().splitlines() or ["no message"])[0]
            why = message if isinstance(error, UserError) else f"{type(error).__name__}: {message}"
            raise ProcessGroupLost(f"process {team.rank} of {team.count} failed: {why}", own=True) from error
