"""Plans, run statuses and results -> text for a terminal: tables, lines and readable numbers."""

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import IO

from rich import box
from rich.console import Console
from rich.table import Table

from degradation.cli.formatting import count, percent, ranges, size
from degradation.spec import Folder, Recipe, StudySpec, grid
from degradation.study.cleanup import Item
from degradation.study.status import ENDED, STATES, FinalError, RunStatus

STATE_STYLES = {"done": "green", "diverged": "yellow", "damaged": "red", "partial": "cyan", "running": "cyan"}


class Terminal(Console):
    """A console that raises on a broken pipe: the command decides what follows."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console(*, stderr: bool = False, file: IO[str] | None = None) -> Terminal:
    """The console of a command: stdout, or stderr if stdout is reserved for JSON. No markup is interpreted."""
    return Terminal(stderr=stderr, file=file, highlight=False, markup=False, emoji=False)


# The plan


def say_plan(out: Console, name: str, study: StudySpec, run_statuses: Sequence[RunStatus]) -> None:
    """Print a study: question, data, recipe, labels, the table of its runs, its matched pairs."""
    out.print(f"study {name}: {study.question}", style="bold")
    arms = [f"arm {name}: {study.changes(name)}" for name in study.arms]
    for line in (data_line(study), *recipe_lines(study), *arms):
        out.print(line)
    for label in study.labels:
        out.print(label, style="yellow")
    out.print(plan_table(study, run_statuses))
    pairs = grid.pairs(run_status.spec for run_status in run_statuses)
    single = len(run_statuses) - len({run.run_id for pair in pairs for run in (pair.plain, pair.residual)})
    without = f"; {count(single, 'run')} without a match" if single else ""
    out.print(f"{count(len(run_statuses), 'run')}, {count(len(pairs), 'matched pair')}{without}")
    for line in (*unmatched(study), *repeated(run_statuses)):
        out.print(line)


def unmatched(study: StudySpec) -> Iterator[str]:
    """A line on the arms without plain networks, if the study has plain networks."""
    residual_only = {name: arm.block.of_shortcut for name, arm in study.each_arm.items() if arm.block.of_shortcut}
    if residual_only and "plain" in study.networks:
        fields = ", ".join(dict.fromkeys(field for fields in residual_only.values() for field in fields))
        where = "" if residual_only.keys() == study.each_arm.keys() else f" in {', '.join(residual_only)}"
        yield f"no match{where}: there are no plain networks with {fields}, which belong to a shortcut"


def repeated(run_statuses: Sequence[RunStatus]) -> Iterator[str]:
    """A line if plain networks are trained more than once."""
    if again := grid.repeated(run_status.spec for run_status in run_statuses):
        yield (
            f"{count(len(again), 'plain run')} of these train{'s' * (len(again) == 1)} the network of another arm "
            "again, with identical results: without an addition, a block's order changes only where responses are read"
        )


def data_line(study: StudySpec) -> str:
    """The data set of a study in one line."""
    data = study.dataset
    validation = f", {data.validation:,} for validation" if data.validation else ""
    return (
        f"{data.name}: {data.train_examples:,} images for training{validation}, "
        f"{data.test_examples:,} for testing, {data.size}x{data.size}, {count(data.classes, 'class')}"
    )


def recipe_lines(study: StudySpec) -> tuple[str, str]:
    """Optimizer and batch, then the learning rate over the steps."""
    recipe = study.recipe
    first, second = recipe.milestones
    epochs = recipe.batch * recipe.steps / study.dataset.train_examples
    sgd = recipe.optimizer == "sgd"
    ghosts = f" in {recipe.ghost_batches} ghost batches" if recipe.ghost_batches > 1 else ""
    moments = f"momentum {recipe.momentum:g}" if sgd else f"beta1 {recipe.momentum:g}, beta2 {recipe.beta2:g}"
    return (
        f"{'SGD' if sgd else 'Adam'}, batch {recipe.batch}{ghosts}, {moments}, weight decay {recipe.weight_decay:g}, "
        f"{augmentation(study)}",
        f"{recipe.steps:,} steps ({epochs:,.1f} epochs): learning rate {recipe.learning_rate:g}, "
        f"a tenth from {first:,}, a hundredth from {second:,}; {warmup(study)}",
    )


def augmentation(study: StudySpec) -> str:
    """The augmentation of a training image."""
    data, recipe = study.dataset, study.recipe_at(study.depths[0])
    if isinstance(data, Folder):
        crop = [f"random crops of a shorter side of {data.shorter[0]} to {data.shorter[1]}"]
    else:
        crop = [f"random crops (padding {recipe.padding})"] if recipe.padding else []
    flip = ["random flips"] if recipe.flip else []
    colour = [f"random colours ({recipe.colour:g})"] if recipe.colour else []
    return ", ".join(crop + flip + colour) or "no augmentation"


def warmup(study: StudySpec) -> str:
    """The warm-up of the study, which may depend on the depth."""
    depths_by_steps: dict[int, list[int]] = {}
    for depth in study.depths:
        depths_by_steps.setdefault(study.recipe_at(depth).warmup_steps, []).append(depth)
    parts = [
        f"{_warmup(study.recipe, steps)} at depth {', '.join(map(str, sorted(depths)))}"
        for steps, depths in depths_by_steps.items()
    ]
    return "; ".join(parts) if len(parts) > 1 else _warmup(study.recipe, *depths_by_steps)


def _warmup(recipe: Recipe, steps: int) -> str:
    if not steps:
        return "no warm-up"
    unused = f", to the first division: {recipe.learning_rate:g} is never used" if steps >= recipe.milestones[0] else ""
    return f"{recipe.warmup_learning_rate:g} for {steps} steps of warm-up{unused}"


def plan_table(study: StudySpec, run_statuses: Sequence[RunStatus]) -> Table:
    """One row per depth and network, the plain one above its residual matches."""
    numbers = ("depth", "parameters", "multiply-\nadds")
    headings = ("depth", *_arm_heading(study), "network", "seeds", "parameters", "multiply-\nadds", "state")
    table = new_table(*headings, right=numbers)
    table.collapse_padding = True  # makes room for a name of 20 letters in 80 columns
    for column in table.columns:
        column.no_wrap, column.overflow = column.header not in ("arm", "state", "seeds"), "fold"
    groups: dict[tuple[int, str, str, str], list[RunStatus]] = {}
    for run_status in run_statuses:
        spec = run_status.spec
        groups.setdefault((spec.depth, run_status.arm, spec.network, spec.shortcut), []).append(run_status)
    for depth, arm, network, shortcut in sorted(groups, key=lambda key: key[0]):
        group = groups[depth, arm, network, shortcut]
        table.add_row(
            str(depth),
            *([arm] if study.arms else []),
            _kind(network, shortcut),
            ranges(run_status.spec.seed for run_status in group),
            f"{grid.parameters_of(group[0].spec):,}",
            f"{grid.multiply_adds_of(group[0].spec) / 1e6:,.2f} M",
            state_of(group),
        )
    return table


def _arm_heading(study: StudySpec) -> list[str]:
    return ["arm"] if study.arms else []


def state_of(group: Sequence[RunStatus]) -> str:
    """``done``, ``pending``, or the number of runs in each state: ``2 done, 1 partial``."""
    counts = {state: sum(run_status.state == state for run_status in group) for state in STATES}
    present = {state: number for state, number in counts.items() if number}
    return ", ".join(present if len(present) == 1 else (f"{number} {state}" for state, number in present.items()))


# Run statuses and results


def status_table(study: StudySpec, rows: Iterable[tuple[RunStatus, dict[str, float] | None]]) -> Table:
    """One row per planned run, with its state and its last measurement."""
    numbers = ("step", "steps", "loss", "error")
    table = new_table("run", *_arm_heading(study), "state", *numbers, right=numbers)
    for run_status, row in rows:
        step, loss, error = (f"{row['step']:,.0f}", loss_of(row), percent(row["error"])) if row else ("", "", "")
        style = STATE_STYLES.get(run_status.state, "")
        steps = f"{run_status.spec.recipe.steps:,}"
        arm = [run_status.arm] if study.arms else []
        table.add_row(run_status.run_id, *arm, run_status.state, step, steps, loss, error, style=style)
    return table


def loss_of(row: Mapping[str, float]) -> str:
    """``0.1234``; ``1.5e+30`` for a very large loss."""
    return f"{row['loss']:.4f}" if abs(row["loss"]) < 1e5 else f"{row['loss']:.2g}"


def say_status(
    out: Console, name: str, study: StudySpec, rows: Sequence[tuple[RunStatus, dict[str, float] | None]]
) -> None:
    """Print the runs of a study on disk, and below them the damage."""
    out.print(f"study {name}: {study.question}", style="bold")
    for label in study.labels:
        out.print(label, style="yellow")
    out.print(status_table(study, rows))
    for run_status, _ in rows:
        if run_status.note:
            out.print(run_status.note, style="red", soft_wrap=True)


def questions_table(questions: Mapping[str, str], reported: Collection[str]) -> Table:
    """The shipped studies with their questions and, if any has a result, a column for it."""
    table = new_table("study", "question", *(["result"] if reported else []))
    for name, question in questions.items():
        result = [f"reports/{name}" if name in reported else ""] if reported else []
        table.add_row(name, question, *result)
    return table


def studies_table(rows: Iterable[tuple[str, Sequence[RunStatus]]]) -> Table:
    """The studies on disk, with the number of done runs."""
    table = new_table("study", "done", "of", "state", right=("done", "of"))
    for name, group in rows:
        ended = sum(run_status.state in ENDED for run_status in group)
        table.add_row(name, str(ended), str(len(group)), state_of(group))
    return table


def errors_table(errors: Sequence[FinalError]) -> Table:
    """Final clean training errors in percent: a row per depth, plain next to residual."""
    kinds = dict.fromkeys((e.statistics, e.network, e.shortcut) for e in sorted(errors, key=_column))
    arms = list(dict.fromkeys(e.arm for e in errors))
    has_arms = arms != [""]
    headings = ["depth", *(["arm"] if has_arms else [])]
    headings += [f"{_kind(network, shortcut)}\n{statistics}" for statistics, network, shortcut in kinds]
    table = new_table(*headings, right=headings)
    cells = {(e.depth, e.arm, e.statistics, e.network, e.shortcut): percent(e.error) for e in errors}
    for depth, arm in product(sorted({e.depth for e in errors}), arms):
        row = [cells.get((depth, arm, *kind), "") for kind in kinds]
        if any(row):
            table.add_row(str(depth), *([arm] if has_arms else []), *row)
    return table


def _column(error: FinalError) -> tuple[bool, bool, str]:
    return error.statistics != "running", error.network != "plain", error.shortcut


def _kind(network: str, shortcut: str) -> str:
    """``plain``, or ``residual A``."""
    return network if shortcut == "none" else f"{network} {shortcut}"


def items_table(items: Sequence[Item]) -> Table:
    """The items that can be deleted, with their sizes."""
    table = new_table("size", "name", "what", right=("size",))
    table.columns[1].overflow = "fold"
    for item in items:
        table.add_row(size(item.size), item.name, item.what)
    return table


def new_table(*headings: str, right: Collection[str] = ()) -> Table:
    """A table whose only line is the one below its headings; the columns in ``right`` are right-aligned."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left")
    return table


def say_error(message: str) -> None:
    """Print a message as one line on stderr; very long words are cut."""
    words = (word if len(word) <= 300 else f"{word[:100]}..." for word in message.split())
    print(f"degradation: {' '.join(words)}", file=sys.stderr)
