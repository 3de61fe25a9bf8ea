"""One file of a study changed, at random or by its structure: named, refused, or without effect on any number."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from degradation.errors import UserError
from degradation.launchers import runner
from degradation.runtime.environment import Options
from degradation.runtime.progress import silent
from degradation.spec import Measure, grid
from degradation.store import LOGS, SPEC, StudyFolder, snapshot_file
from degradation.study.library import stored
from degradation.study.results import NAMES, Results
from degradation.study.status import last_rows
from degradation.training.checkpoint import Checkpoint, decode
from degradation.training.execute import Execution, execute
from tests import made

pytestmark = pytest.mark.slow

CHANGES = 150
"""At random, of each of the two studies."""
SNAPSHOT = 3
WRONG: tuple[Any, ...] = (None, True, 0, -1, 1e300, "", "finished", "diverged", "../spec.json", [], {}, [[]], {"a": 1})

Frames = dict[str, pd.DataFrame]
Change = tuple[str, bytes]


def study_of_a_pair(folder: StudyFolder) -> None:
    study = made.study_spec(measure=Measure(eval_every=5, snapshots=(SNAPSHOT,)))
    folder.write_study(study.begun().model_dump(mode="json"))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return made_done(tmp_path_factory.mktemp("done"))


def made_done(root: Path) -> StudyFolder:
    """A pair trained to the end, with a snapshot each."""
    folder = StudyFolder(root, "s")
    study_of_a_pair(folder)
    runner.execute_study(folder, stored(folder), Options(jobs=1, threads=1), silent)
    return folder


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return made_half(tmp_path_factory.mktemp("half"))


def made_half(root: Path) -> StudyFolder:
    """The first run of a pair stopped when it has its snapshot."""
    folder = StudyFolder(root, "s")
    study_of_a_pair(folder)
    run = grid.runs(stored(folder))[0]
    kept = snapshot_file(SNAPSHOT)
    assert execute(run, folder, made.CPU, silent, lambda: folder.kept(run.run_id, kept) is not None) == "stopped"
    return folder


# changes


def at_random(data: bytes, draw: random.Random) -> bytes:
    """Some bytes overwritten, lost, repeated or inserted somewhere."""
    start = draw.randrange(len(data))
    end = min(len(data), start + draw.choice((1, 1, 1, 8, 500)))
    flipped = bytes([data[start] ^ (1 << draw.randrange(8))]) + data[start + 1 : end]
    middle = draw.choice((flipped, b"", data[start:end] * 2, bytes(end - start)))
    return data[:start] + middle + data[end:]


def by_structure(data: bytes) -> Iterator[bytes]:
    """JSON with one entry lost, renamed or of another value, wherever in it; the file emptied or cut."""
    yield from (b"", b"{}", b"[]", b"null", data[: len(data) // 2], data + data)
    for changed in _variants(json.loads(data)):
        yield json.dumps(changed).encode()


def _variants(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for name, inner in value.items():
            rest = {each: other for each, other in value.items() if each != name}
            yield rest
            yield rest | {f"{name}x": inner}
            for changed in (*WRONG, *_variants(inner)):
                yield value | {name: changed}
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield value[:place] + value[place + 1 :]
            yield [*value, inner]
            for changed in _variants(inner):
                yield [*value[:place], changed, *value[place + 1 :]]
    elif isinstance(value, str):
        yield value[:-1]
        yield value + " "
    elif isinstance(value, (int, float)):
        yield value + 1


def changes(folder: StudyFolder, count: int, seed: int = 0) -> Iterator[Change]:
    """``count`` changes at random, spread over the files of a study, and some of each JSON file by its structure."""
    files = {name: (folder.path / name).read_bytes() for name in folder.store.below(folder.name)}
    files = {name: data for name, data in files.items() if data and not name.startswith(LOGS)}  # nor locks
    draw = random.Random(seed)
    for number in range(count):
        name = list(files)[number % len(files)]
        yield name, at_random(files[name], draw)
    for name, data in files.items():
        if name.endswith(".json"):
            every = list(by_structure(data))
            yield from ((name, changed) for changed in draw.sample(every, min(len(every), max(20, count // 5))))


# what may come of them


def frames_of(folder: StudyFolder) -> Frames:
    results = Results(folder)
    return {name: results[name] for name in NAMES}


def same(found: Frames, expected: Frames) -> bool:
    return all(found[name].equals(expected[name]) for name in NAMES)


def silent_in_load(folder: StudyFolder, expected: Frames) -> bool:
    """Whether other numbers are read, and nothing is said."""
    try:
        return not same(frames_of(folder), expected)
    except UserError:
        return False


def silent_in_status(folder: StudyFolder, expected: list[Any], *, changed: bool) -> bool:
    """Whether ``status --verify`` shows other rows, or a changed file of a done run, and says nothing of it."""
    try:
        found = last_rows(folder, stored(folder), verify=True)
    except UserError:
        return False
    if any(run_status.state == "damaged" for run_status, _ in found):
        return False
    return changed or [(run_status.state, row) for run_status, row in found] != expected


def states(folder: StudyFolder) -> list[Any]:
    return [(run_status.state, row) for run_status, row in last_rows(folder, stored(folder), verify=True)]


def is_equal_json(one: bytes, other: bytes) -> bool:
    """Whether two JSON files differ in white space alone."""
    try:
        return bool(json.dumps(json.loads(one), sort_keys=True) == json.dumps(json.loads(other), sort_keys=True))
    except (ValueError, RecursionError):
        return False


def silent_changes_of_done(folder: StudyFolder, count: int) -> tuple[list[str], int]:
    frames, before = frames_of(folder), states(folder)
    found: list[str] = []
    tried = 0
    for name, data in changes(folder, count):
        path, tried = folder.path / name, tried + 1
        original = path.read_bytes()
        path.write_bytes(data)
        other = data != original and not (name.endswith(".json") and is_equal_json(data, original))
        if silent_in_load(folder, frames) or silent_in_status(folder, before, changed=other):
            found.append(f"{name}: {data[:300]!r}")
        path.write_bytes(original)
    return found, tried


def silent_changes_of_half(folder: StudyFolder, count: int) -> tuple[list[str], int]:
    """A half run either continues from what it saved, to the bit, or sets it aside and begins anew."""
    run, before = grid.runs(stored(folder))[0], states(folder)
    saved = folder.checkpoint(run.run_id) or b""
    found: list[str] = []
    tried = 0
    for name, data in changes(folder, count):
        path, tried = folder.path / name, tried + 1
        original, checkpoint = path.read_bytes(), folder.checkpoint(run.run_id) or b""
        path.write_bytes(data)
        rows = before if name.endswith(SPEC) else [*before, *unsaved(before)]
        if shows_other_rows(folder, rows) or continues_otherwise(folder, saved):
            found.append(f"{name}: {data[:300]!r}")
        path.write_bytes(original)
        folder.write_checkpoint(run.run_id, checkpoint)
    return found, tried


def unsaved(before: list[Any]) -> list[Any]:
    """The same runs where nothing is known of what the partial one had reached."""
    return [("partial", None) for state, _ in before if state == "partial"]


def shows_other_rows(folder: StudyFolder, allowed: list[Any]) -> bool:
    try:
        found = last_rows(folder, stored(folder), verify=True)
    except UserError:
        return False
    return any((s.state, row) not in allowed for s, row in found if s.state not in ("damaged", "pending"))


def continues_otherwise(folder: StudyFolder, saved: bytes) -> bool:
    try:
        run = grid.runs(stored(folder))[0]
    except UserError:
        return False  # refused
    found = Execution(run, folder, silent, lambda: False)._checkpoint()
    return found is not None and as_bytes(found) != as_bytes(decode(saved))


def as_bytes(checkpoint: Checkpoint) -> tuple[Any, ...]:
    tensors = {name: (str(each.dtype), each.shape, each.numpy().tobytes()) for name, each in checkpoint.tensors.items()}
    return tensors, checkpoint.rows, checkpoint.facts


def test_no_change_of_a_done_study_is_silent(done: StudyFolder) -> None:
    found, tried = silent_changes_of_done(done, CHANGES)
    assert tried > CHANGES
    assert found == []


def test_no_change_of_a_half_study_is_silent(half: StudyFolder) -> None:
    found, tried = silent_changes_of_half(half, CHANGES)
    assert tried > CHANGES
    assert found == []
