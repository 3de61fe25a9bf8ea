"""A small process that ends what Ray started on this machine once the command is gone, however it ended."""

import os
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

LINGER_SECONDS = 1.0  # in which Ray's processes may end separately once the command is gone
WATCH = """
import os, select, signal, sys
watched = []
for pid in sys.stdin:
    try:
        watched.append(os.pidfd_open(int(pid)))
    except OSError:
        pass
for process in watched:
    if not select.select([process], [], [], float(sys.argv[1]) / len(watched))[0]:
        signal.pidfd_send_signal(process, signal.SIGKILL)
"""


def watchdog() -> AbstractContextManager[Any]:
    """A process that ends what is left of Ray once the command is gone, even by SIGKILL, and then itself.

    Ray's agents would wait a minute for a head that has gone with the command.
    """
    if not hasattr(os, "pidfd_open"):
        return nullcontext()
    return subprocess.Popen(
        [sys.executable, "-IS", "-c", WATCH, str(LINGER_SECONDS)],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, bufsize=0,
        start_new_session=True,  # Ctrl-C is for the command
    )  # fmt: skip


def _started_by_raylet(node: Any) -> list[str]:
    """The children of the node's raylet, its agents among them: what else Ray starts here dies with this process."""
    with suppress(AttributeError, KeyError, OSError):
        raylets = node.all_processes["raylet"]
        below = [file for each in raylets for file in Path(f"/proc/{each.process.pid}/task").glob("*/children")]
        return [pid for file in below for pid in file.read_text().split()]
    return []


def watch_over(watch: Any, node: Any) -> None:
    """Tell the process of ``watchdog`` what to end: Ray has been started as this node."""
    with suppress(OSError):
        watch.stdin.write("".join(f"{pid}\n" for pid in _started_by_raylet(node)).encode())
