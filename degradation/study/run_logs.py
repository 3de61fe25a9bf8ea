"""Worker logs of a run: one text per attempt, in the study's store next to the runs' folders.

``NAME/logs/RUN_ID/ATTEMPT.txt``, and ``...-note.txt`` for the note of a command on an attempt whose worker died. They
are outside the folder of the run, which holds only files that ``done.json`` names.
"""

import os
import socket
import time
from collections.abc import Mapping

from degradation.errors import UserError
from degradation.spec.validation import suggestion
from degradation.store import LOGS, StudyFolder

NOTE = "-note"
"""Suffix of the name of a note."""


def attempt_name() -> str:
    """A unique name for an attempt that begins now: time (so that names sort by it), node and process."""
    now = time.time()
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
    return f"{stamp}-{int(now % 1 * 1000):03d}-{socket.gethostname()}-{os.getpid()}"


def worker(attempt: str) -> tuple[str, int]:
    """The node and the process of an attempt, from its name. ValueError for another name, such as that of a note."""
    node, process = attempt.split("-", 3)[3].rsplit("-", 1)
    return node, int(process)


def write(folder: StudyFolder, run_id: str, attempt: str, text: str) -> None:
    """Replace the text of an attempt. Raises UserError if it cannot be written."""
    folder.store.write(f"{_place(folder, run_id)}/{attempt}.txt", text.encode())


def note(folder: StudyFolder, run_id: str, text: str) -> None:
    """Write the note of a command on the last attempt at a run, whose worker could not. UserError as for `write`."""
    write(folder, run_id, f"{attempt_name()}{NOTE}", text)


def attempts(texts: Mapping[str, str]) -> list[tuple[str, str]]:
    """The attempts of `read` with their texts; a note is added to the text of its attempt.

    A note that comes first, or after another note, belongs to an attempt that ended without output.
    """
    merged: list[tuple[str, str]] = []
    ended = True
    for name, text in texts.items():
        if name.endswith(NOTE) and not ended:
            attempt, text_so_far = merged.pop()
            merged.append((attempt, f"{text_so_far.rstrip()}\n{text}"))
        else:
            merged.append((name, text))
        ended = name.endswith(NOTE)
    return merged


def read(folder: StudyFolder, run_id: str) -> dict[str, str]:
    """Attempt or note -> its text, oldest first."""
    place = _place(folder, run_id)
    texts = {name: folder.store.read(f"{place}/{name}.txt") for name in names(folder, run_id)}
    return {name: text.decode(errors="replace") for name, text in texts.items()}


def names(folder: StudyFolder, run_id: str) -> tuple[str, ...]:
    """The names of the attempts and notes of a run, oldest first."""
    return tuple(name.removesuffix(".txt") for name in folder.store.list(_place(folder, run_id)))


def logged(folder: StudyFolder) -> tuple[str, ...]:
    """The ids of the runs with a log."""
    return folder.store.list(f"{folder.name}/{LOGS}")


def size(folder: StudyFolder, run_id: str) -> int:
    """Bytes of all attempts at a run."""
    return folder.store.size(_place(folder, run_id))


def remove(folder: StudyFolder, run_id: str) -> None:
    """Delete the logs of a run."""
    folder.store.remove(_place(folder, run_id))


def find(folder: StudyFolder, text: str, arms: Mapping[str, str]) -> str:
    """The id of a run, from the id, the id without its hash, or a beginning that no other id has.

    ``arms``: the ids of the planned runs -> the arm of each. Raises UserError if no run or several runs match.
    """
    known = sorted({*arms, *logged(folder), *folder.run_ids()})
    exact = [run_id for run_id in known if text in (run_id, run_id.rsplit("-", 1)[0])]
    matching = exact or [run_id for run_id in known if run_id.startswith(text)]
    if len(matching) == 1:
        return matching[0]
    if not matching:
        hint = suggestion(text, [name for run_id in known for name in (run_id.rsplit("-", 1)[0], run_id)])
        raise UserError(f"no run {text!r} in study {folder.name}: {len(known)} are there{hint}")
    shown = ", ".join(f"{run_id} ({arms[run_id]})" if arms.get(run_id) else run_id for run_id in matching[:6])
    more = ", ..." if len(matching) > 6 else ""
    raise UserError(f"{text!r} means {len(matching)} runs of study {folder.name}: expected one of {shown}{more}")


def _place(folder: StudyFolder, run_id: str) -> str:
    return f"{folder.name}/{LOGS}/{run_id}"
