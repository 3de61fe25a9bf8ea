"""A few tiny runs -> the calls to the store that one run makes, and each of its checkpoints."""

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from benchmarks.launching import study
from degradation.launchers import local, runner
from degradation.launchers.attempts import LaunchContext
from degradation.runtime.environment import Options
from degradation.runtime.progress import silent
from degradation.spec import grid
from degradation.store import StudyFolder
from degradation.store.local import LocalStore

CALLS = ("read", "write", "exists", "list", "tree", "remove", "lock")
RUNS, STEPS = 10, 4

Row = dict[str, Any]


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """The calls of every store, by name, as long as the block lasts."""
    calls: Counter[str] = Counter()

    def counting(name: str, real: Any) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            calls[name] += 1
            return real(*given, **named)

        return call

    with ExitStack() as stack:
        for name in CALLS:
            stack.enter_context(patch.object(LocalStore, name, counting(name, getattr(LocalStore, name))))
        yield calls


def requests() -> list[Row]:
    """Calls a run from its first step to its last, without a checkpoint; then those of `pending` for each done run."""
    with tempfile.TemporaryDirectory() as root:
        folder, asked = StudyFolder(root, "tiny"), study(RUNS, STEPS)
        folder.write_study(asked.model_dump(mode="json"))
        options = Options(jobs=1, threads=1, checkpoint_seconds=1e9)
        with counted() as training:
            local.launch(
                LaunchContext(root=root, study="tiny", options=options), grid.runs(asked), silent, lambda: False
            )
        with counted() as looking:
            runner.pending(folder, asked)
    found = {"a run, first step to last": training, "a done run, when a study is continued": looking}
    return [{"of": what} | {call: calls[call] / RUNS for call in CALLS} for what, calls in found.items()]
