"""A small process that ends Ray's processes on this machine after the command has ended, for whatever reason."""

import os
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

LINGER_SECONDS = 1.0  # for Ray's processes to end by themselves after the command has ended
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
    """Start a process that ends the remaining processes of Ray after the end of the command, even by SIGKILL.

    Ray's agents would wait a minute for a head that ended with the command.
    """
    if not hasattr(os, "pidfd_open"):
        return nullcontext()
    return subprocess.Popen(
        [sys.executable, "-IS", "-c", WATCH, str(LINGER_SECONDS)],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, bufsize=0,
        start_new_session=True,  # Ctrl-C is for the command
    )  # fmt: skip


def _started_by_raylet(node: Any) -> list[str]:
    """The process ids of the raylet's children, such as its agents: Ray's other processes end with this process."""
    with suppress(AttributeError, KeyError, OSError):
        raylets = node.all_processes["raylet"]
        files = [file for raylet in raylets for file in Path(f"/proc/{raylet.process.pid}/task").glob("*/children")]
        return [pid for file in files for pid in file.read_text().split()]
    return []


def watch_over(watch: Any, node: Any) -> None:
    """Send the process of ``watchdog`` the process ids to end; ``node`` is the started Ray node."""
    with suppress(OSError):
        watch.stdin.write("".join(f"{pid}\n" for pid in _started_by_raylet(node)).encode())
