"""Cost of a study: real steps timed at its least and greatest depth -> seconds of every run."""

import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from degradation.errors import UserError
from degradation.runtime.distributed import check_shares, here
from degradation.runtime.environment import Options, choose_environment, choose_jobs
from degradation.runtime.progress import silent
from degradation.spec import RunSpec, StudyRecipe, StudySpec, grid, schedules

if TYPE_CHECKING:
    from degradation.data import AnyImages
    from degradation.runtime.environment import Environment

TIMED_STEPS = 2
FEWEST_STEPS = 50
START_SECONDS = 3.0  # a process that imports torch and reads the data


@dataclass(frozen=True, kw_only=True)
class LinearCost:
    """Seconds = fixed + per_multiply_add * multiply-adds, fitted at two depths and used at all."""

    fixed: float
    per_multiply_add: float

    def __call__(self, run: RunSpec) -> float:
        return self.fixed + self.per_multiply_add * grid.multiply_adds_of(run)


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Measured seconds of a training step and of the evaluation of one batch, and how many runs go at a time."""

    step: LinearCost
    evaluation: LinearCost
    jobs: int
    processes: int = 1
    """Number of processes that share the batches of each run."""

    def seconds(self, runs: Iterable[RunSpec]) -> float:
        """Wall seconds for the runs: their sum shared by the jobs, but no less than the longest."""
        each = [
            run.recipe.steps * self.step(run) + evaluated_batches(run) / self.processes * self.evaluation(run)
            for run in runs
        ]
        return START_SECONDS + max(sum(each) / self.jobs, max(each)) if each else 0.0

    def steps_within(self, study: StudySpec, seconds: float) -> int:
        """The number of steps with which the whole study takes ``seconds``: its own, or fewer, rounded down to tens.

        Raises UserError if that is fewer than 50, or fewer than the steps of a warm-up.
        """
        fewest, most = _fewest(study), study.recipe.steps
        needed = self.seconds(grid.runs(_with_steps(study, fewest)))
        if needed > seconds:
            warmup = ", as many as the warm-up has," if fewest > FEWEST_STEPS else ""
            raise UserError(
                f"--budget: even {fewest} steps{warmup} take about {needed:.0f} s, above the {seconds:.0f} s given: "
                "raise it, or take fewer depths or seeds, or a smaller --eval-examples"
            )
        if self.seconds(grid.runs(study)) <= seconds:
            return most
        while most - fewest >= 10:
            middle = (fewest + most) // 2
            fits = self.seconds(grid.runs(_with_steps(study, middle))) <= seconds
            fewest, most = (middle, most) if fits else (fewest, middle)
        return fewest // 10 * 10


def _fewest(study: StudySpec) -> int:
    """50, or the longest warm-up that is a number, rounded up to tens: a schedule is no shorter than its warm-up."""
    warmups = [arm.recipe.warmup_steps for arm in study.each_arm.values()]
    longest = max([FEWEST_STEPS, *(steps for steps in warmups if not isinstance(steps, str))])
    return -(-longest // 10) * 10


def _with_steps(study: StudySpec, steps: int) -> StudySpec:
    fields = study.recipe.model_dump() | {"steps": steps}
    return study.model_copy(update={"recipe": StudyRecipe(**fields)})


def evaluated_batches(run: RunSpec) -> int:
    """Number of batches that the run evaluates: each split, with both statistics, during training and at the end."""
    measure, batch = run.measure, run.recipe.normalized_together
    before_end = len(schedules.evaluations(measure.eval_every, run.recipe.steps, run.epoch_steps)) - 1
    sizes = [size for size in (run.dataset.train_examples, run.dataset.validation, run.dataset.test_examples) if size]
    part, end = (
        sum(-(-min(size, examples or size) // batch) for size in sizes)
        for examples in (measure.eval_examples, measure.final_examples)
    )
    return 2 * (before_end * part + end)


def time_costs(study: StudySpec, options: Options) -> Costs:
    """Time real steps of the study's least and greatest depth on this machine; takes a few seconds."""
    from degradation.training.execute import images_of

    planned = sorted(grid.runs(study), key=grid.multiply_adds_of)
    jobs = choose_jobs(options, len(planned))
    environment = choose_environment(options, study.precision, jobs)
    images = images_of(study.dataset, options.data_dir)
    least, greatest = planned[0], planned[-1]
    low = _time(least, images, environment)
    same_size = grid.multiply_adds_of(least) == grid.multiply_adds_of(greatest)
    high = low if same_size else _time(greatest, images, environment)
    step, evaluation = (line_through(least, greatest, a, b) for a, b in zip(low, high, strict=True))
    return Costs(step=step, evaluation=evaluation, jobs=jobs, processes=environment.processes)


def line_through(least: RunSpec, greatest: RunSpec, low: float, high: float) -> LinearCost:
    """The line through the seconds of two runs; level if they are equally large or the greater was not slower."""
    start = grid.multiply_adds_of(least)
    span = grid.multiply_adds_of(greatest) - start
    if span == 0 or high <= low:
        return LinearCost(fixed=max(low, high), per_multiply_add=0.0)
    slope = (high - low) / span
    return LinearCost(fixed=low - slope * start, per_multiply_add=slope)


def _time(run: RunSpec, images: "AnyImages", environment: "Environment") -> tuple[float, float]:
    """Seconds of a training step, or of decoding its batch if that takes longer; and of evaluating one batch.

    If several processes share a batch, only the share of one is timed.
    """
    from degradation.training.evaluation import EvalSplit
    from degradation.training.process_group import ProcessGroup
    from degradation.training.trainer import Training

    check_shares(run, environment.processes, environment.sync_batch_norm)
    share = ProcessGroup(processes=here())  # not connected: the other processes and their messages are not timed
    with closing(Training(run, images, replace(environment, sync_batch_norm=False), silent, share)) as training:
        part = EvalSplit(batches=training.clean["test"], examples=run.recipe.normalized_together)
        steps = count()

        def batch() -> None:
            training.batches.ready(next(steps))

        def step() -> None:
            batch()
            training.stepper.train()
            int(training.state.first_nonfinite)  # wait for the device

        evaluation = partial(training.evaluate, part, "batch")
        for work in (step, evaluation):
            work()  # the first call of each includes set-up
        trained = _seconds(step)
        for _ in range(training.batches.ahead):
            batch()  # was decoded during the steps above
        return max(trained, _seconds(batch)), _seconds(evaluation)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    for _ in range(TIMED_STEPS):
        work()
    return (time.perf_counter() - started) / TIMED_STEPS
