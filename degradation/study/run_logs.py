"""Worker logs of a run: one text per attempt, in the study's store next to the runs' folders.

``NAME/logs/RUN_ID/ATTEMPT.txt``, and ``...-note.txt`` for what a command says of an attempt that it saw end: outside
the folder of the run, which holds nothing but what ``done.json`` names.
"""

import os
import socket
import time
from collections.abc import Mapping

from degradation.errors import UserError
from degradation.spec.validation import suggestion
from degradation.store import LOGS, StudyFolder

NOTE = "-note"
"""How the name of a note ends."""


def attempt_name() -> str:
    """A name for an attempt that begins now: in order of time, with node and process, so that no two are equal."""
    now = time.time()
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
    return f"{stamp}-{int(now % 1 * 1000):03d}-{socket.gethostname()}-{os.getpid()}"


def worker(attempt: str) -> tuple[str, int]:
    """The node and the process that made an attempt, from its name. ValueError for another name, as of a note."""
    node, process = attempt.split("-", 3)[3].rsplit("-", 1)
    return node, int(process)


def write(folder: StudyFolder, run_id: str, attempt: str, text: str) -> None:
    """Replace the text of an attempt. Raises UserError if it cannot be written."""
    folder.store.write(f"{_place(folder, run_id)}/{attempt}.txt", text.encode())


def note(folder: StudyFolder, run_id: str, text: str) -> None:
    """Keep what a command says of the last attempt at a run, whose worker could not. UserError as `write`."""
    write(folder, run_id, f"{attempt_name()}{NOTE}", text)


def attempts(texts: Mapping[str, str]) -> list[tuple[str, str]]:
    """The attempts of `read` with their texts, a note below that of the attempt that it ends.

    A note that follows none, or another note, is of an attempt that ended without output.
    """
    found: list[tuple[str, str]] = []
    ended = True
    for name, text in texts.items():
        if name.endswith(NOTE) and not ended:
            attempt, text_so_far = found.pop()
            found.append((attempt, f"{text_so_far.rstrip()}\n{text}"))
        else:
            found.append((name, text))
        ended = name.endswith(NOTE)
    return found


def read(folder: StudyFolder, run_id: str) -> dict[str, str]:
    """Attempt or note -> its text, the first first."""
    place = _place(folder, run_id)
    texts = {name: folder.store.read(f"{place}/{name}.txt") for name in names(folder, run_id)}
    return {name: text.decode(errors="replace") for name, text in texts.items()}


def names(folder: StudyFolder, run_id: str) -> tuple[str, ...]:
    """The attempts and notes that are kept of a run, the first first."""
    return tuple(name.removesuffix(".txt") for name in folder.store.list(_place(folder, run_id)))


def logged(folder: StudyFolder) -> tuple[str, ...]:
    """The runs of which anything is kept."""
    return folder.store.list(f"{folder.name}/{LOGS}")


def size(folder: StudyFolder, run_id: str) -> int:
    """Bytes of all attempts at a run."""
    return folder.store.size(_place(folder, run_id))


def remove(folder: StudyFolder, run_id: str) -> None:
    """Delete what is kept of a run."""
    folder.store.remove(_place(folder, run_id))


def find(folder: StudyFolder, asked: str, arms: Mapping[str, str]) -> str:
    """The run that is meant: its id, its id without the hash, or the beginning of one that no other run has.

    ``arms`` gives the planned runs by id, with the arm of each. Raises UserError if none or several are meant.
    """
    known = sorted({*arms, *logged(folder), *folder.run_ids()})
    exact = [run_id for run_id in known if asked in (run_id, run_id.rsplit("-", 1)[0])]
    meant = exact or [run_id for run_id in known if run_id.startswith(asked)]
    if len(meant) == 1:
        return meant[0]
    if not meant:
        hint = suggestion(asked, [name for run_id in known for name in (run_id.rsplit("-", 1)[0], run_id)])
        raise UserError(f"no run {asked!r} in study {folder.name}: {len(known)} are there{hint}")
    shown = ", ".join(f"{run_id} ({arms[run_id]})" if arms.get(run_id) else run_id for run_id in meant[:6])
    rest = ", ..." if len(meant) > 6 else ""
    raise UserError(f"{asked!r} means {len(meant)} runs of study {folder.name}: expected one of {shown}{rest}")


def _place(folder: StudyFolder, run_id: str) -> str:
    return f"{folder.name}/{LOGS}/{run_id}"
