"""The runs of a study -> the table that a notebook shows of it: which are done, by network and depth."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from degradation.frames import notebook_html
from degradation.spec import RunSpec, StudySpec


def overview(
    title: str, study: StudySpec, planned: Mapping[RunSpec, str], done: Collection[RunSpec], frames: Iterable[str]
) -> str:
    """The question, how many seeds of each network are done at each depth, and what the frames are called."""
    name, rest = title.split(": ", 1)
    return "".join(
        [
            notebook_html.heading(name, f": {rest}"),
            notebook_html.lines(filter(None, (study.question, *study.labels))),
            notebook_html.table(*_grid(planned, done)),
            notebook_html.folded("frames", notebook_html.lines([", ".join(frames)])),
        ]
    )


def _grid(planned: Mapping[RunSpec, str], done: Collection[RunSpec]) -> tuple[Sequence[str], list[Sequence[str]]]:
    """A row an arm and network, a column a depth; in each cell the seeds that are done, of those that were planned."""
    cells = Counter((*_row(run, arm), run.depth) for run, arm in planned.items())
    there = Counter((*_row(run, planned.get(run, "")), run.depth) for run in done)
    rows = list(dict.fromkeys(key[:2] for key in (*cells, *there)))
    depths = sorted({key[2] for key in (*cells, *there)})

    def shown(row: tuple[str, str], depth: int) -> str:
        key = (*row, depth)
        return f"{there[key]} of {cells[key]}" if cells[key] else str(there[key] or "")

    with_arms = any(arm for arm, _ in rows)
    headings = [*(["arm"] if with_arms else []), "seeds done", *(f"depth {depth}" for depth in depths)]
    return headings, [[*(row if with_arms else row[1:]), *(shown(row, depth) for depth in depths)] for row in rows]


def _row(run: RunSpec, arm: str) -> tuple[str, str]:
    return arm, run.network if run.network == "plain" else f"{run.network} {run.shortcut}"
