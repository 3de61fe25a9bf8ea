"""The runs of a study -> the table that a notebook shows: the done runs by network and depth."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from degradation.frames import notebook_html
from degradation.spec import RunSpec, StudySpec


def overview(
    title: str, study: StudySpec, planned: Mapping[RunSpec, str], done: Collection[RunSpec], frames: Iterable[str]
) -> str:
    """The question, the number of done seeds of each network and depth, and the names of the frames, as HTML."""
    name, count = title.split(": ", 1)
    return "".join(
        [
            notebook_html.heading(name, f": {count}"),
            notebook_html.lines(filter(None, (study.question, *study.labels))),
            notebook_html.table(*_grid(planned, done)),
            notebook_html.folded("frames", notebook_html.lines([", ".join(frames)])),
        ]
    )


def _grid(planned: Mapping[RunSpec, str], done: Collection[RunSpec]) -> tuple[Sequence[str], list[Sequence[str]]]:
    """One row per arm and network, one column per depth; each cell has the number of done and planned seeds."""
    all_seeds = Counter((*_row(run, arm), run.depth) for run, arm in planned.items())
    done_seeds = Counter((*_row(run, planned.get(run, "")), run.depth) for run in done)
    rows = list(dict.fromkeys(key[:2] for key in (*all_seeds, *done_seeds)))
    depths = sorted({key[2] for key in (*all_seeds, *done_seeds)})

    def cell(row: tuple[str, str], depth: int) -> str:
        key = (*row, depth)
        return f"{done_seeds[key]} of {all_seeds[key]}" if all_seeds[key] else str(done_seeds[key] or "")

    with_arms = any(arm for arm, _ in rows)
    headings = [*(["arm"] if with_arms else []), "seeds done", *(f"depth {depth}" for depth in depths)]
    return headings, [[*(row if with_arms else row[1:]), *(cell(row, depth) for depth in depths)] for row in rows]


def _row(run: RunSpec, arm: str) -> tuple[str, str]:
    return arm, run.network if run.network == "plain" else f"{run.network} {run.shortcut}"
