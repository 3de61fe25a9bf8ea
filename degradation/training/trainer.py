"""One run from its first step, or from a checkpoint, to its rows, final weights and facts."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from degradation import networks
from degradation.data import AnyImages
from degradation.data.loaders import clean_batches, training_batches
from degradation.frames import schemas
from degradation.networks.weights import extra_weights, shared_weights, weight_hash
from degradation.probes import Readings
from degradation.runtime.environment import Environment, provenance
from degradation.runtime.progress import OnProgress, Progress
from degradation.spec import RunSpec, canonical, schedules
from degradation.training.checkpoint import Checkpoint, encode_weights
from degradation.training.evaluation import EvalSplit, Evaluator
from degradation.training.ghost_batches import GhostBatches
from degradation.training.lr_schedule import learning_rate
from degradation.training.process_group import ALONE, ProcessGroup
from degradation.training.step import NEVER, STATISTICS, State, Stepper
from degradation.training.sync_batch_norm import synchronized

REPORT_SECONDS = 0.5
CURVE_ROWS = 64  # the running training error costs almost nothing, so it has more rows than the probes


class Stopped(Exception):
    """A stop was requested; the run's state is that at the beginning of its current step."""


@dataclass(frozen=True, kw_only=True)
class RunCallbacks:
    """Callbacks of the training of a run."""

    should_stop: Callable[[], bool]
    save: Callable[[], None]
    """Keep the run's checkpoint."""
    keep_snapshot: Callable[[int], None]
    """Keep the weights of this step, in addition to the final ones."""
    save_seconds: float

    def watch(self) -> None:
        """Raise Stopped if a stop was requested."""
        if self.should_stop():
            raise Stopped


class Throughput:
    """Images per second since the last restart, and when the next report is due."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.restart()

    def restart(self) -> None:
        """Restart the count, after work that is not training."""
        self.steps, self.started = 0, time.monotonic()
        self.reported = self.started

    def tick(self) -> bool:
        """Count a step; return whether a report is due."""
        self.steps += 1
        now = time.monotonic()
        due = now - self.reported >= REPORT_SECONDS
        self.reported = now if due else self.reported
        return due

    def images_per_second(self) -> float | None:
        elapsed = time.monotonic() - self.started
        return self.batch * self.steps / elapsed if self.steps and elapsed > 0 else None


class Training:
    """The training of one run. ``position`` is the next step; nothing is written to disk here.

    Each of several processes does its share and has the whole state: rows and weights are equal in all of them.
    """

    def __init__(
        self, run: RunSpec, images: AnyImages, environment: Environment, report: OnProgress, team: ProcessGroup = ALONE
    ) -> None:
        environment.enter()
        self.run, self.environment, self.report, self.team = run, environment, report, team
        network = networks.for_run(run)
        if environment.sync_batch_norm:
            synchronized(network)
        self.state = State(network, run.recipe, environment.torch_device)
        parts = GhostBatches.of(run, team)
        self.batches = training_batches(images, run, environment, parts.rows)
        self.stepper = Stepper(self.state, self.batches, run, environment, self._note, parts)
        self.evaluate = Evaluator(self.state.network, environment, self._note, team)
        self.clean = clean_batches(images, self.batches.mean, run.recipe.normalized_together, environment)
        self.classes = images.classes
        self.curves: list[dict[str, Any]] = []
        self.readings = Readings(self.stepper.probes, self.stepper.layout)
        self.position, self.previous_row = 0, 0
        self.diverged_step: int | None = None
        self.facts = self._first_facts(images)
        self._schedule()
        self._clock = Throughput(run.recipe.batch)

    def _first_facts(self, images: AnyImages) -> dict[str, Any]:
        """Facts known before the first step, such as the hash of the weights that it starts from."""
        network = self.state.network
        return {
            "parameters": sum(weight.numel() for weight in self.state.weights),
            "weight_hash": weight_hash(shared_weights(network)),
            "extra_weights": ", ".join(extra_weights(network)),
            "wall_seconds": 0.0,
            "provenance": provenance(self.environment) | images.provenance,
        }

    def _schedule(self) -> None:
        steps, measure = self.run.recipe.steps, self.run.measure
        probe_steps = schedules.every(measure.probe_every, steps) if measure.probe_every else schedules.default(steps)
        self.probe_steps = frozenset(probe_steps if measure.probes else ())
        self.eval_steps = frozenset(schedules.evaluations(measure.eval_every, steps, self.run.epoch_steps))
        curve_steps = schedules.every(max(1, steps // CURVE_ROWS), steps)
        self.row_steps = self.probe_steps | self.eval_steps | frozenset(curve_steps)

    # checkpoint

    def checkpoint(self) -> Checkpoint:
        """The state at the beginning of step ``position``."""
        progress = {"position": self.position, "previous_row": self.previous_row}
        environment = {"environment": self.environment.as_facts()}
        facts = self.facts | progress | environment | {"run": canonical(self.run)}
        return Checkpoint(tensors=self.state.tensors() | self.readings.tensors(), rows=self.curves, facts=facts)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint of the same run, exactly."""
        facts = dict(checkpoint.facts)
        self.position, self.previous_row = facts.pop("position"), facts.pop("previous_row")
        facts.pop("environment"), facts.pop("run")
        if (count := self.environment.processes) != facts["provenance"].get("processes", 1):
            continued = f"by {count} process{'es' * (count > 1)} from step {self.position}"
            facts["provenance"] = facts["provenance"] | {"continued": continued}
        self.facts = facts
        self.curves = checkpoint.rows
        self.state.restore(checkpoint.tensors)
        self.readings.restore(checkpoint.tensors)

    # training

    def train(self, host: RunCallbacks) -> None:
        """Take all remaining steps and save on the host's schedule. Raises Stopped if a stop was requested."""
        self.team.same(self.state.tensors().values())
        saved = last = time.monotonic()
        while self.position <= self.run.recipe.steps and self.diverged_step is None:
            now = time.monotonic()
            self.facts["wall_seconds"] += now - last
            last = now
            host.watch()
            if now - saved >= host.save_seconds:
                host.save()
                saved = now
            self._at_position(host)
        self.facts["wall_seconds"] += time.monotonic() - last

    def _at_position(self, host: RunCallbacks) -> None:
        """Everything that happens at one step: its rows, its snapshot, its update."""
        if self.position in self.row_steps:
            self._row(host)
        if self.diverged_step is not None:
            return
        if self.position in self.run.measure.snapshots:
            host.keep_snapshot(self.position)
        self._step()
        self.position += 1

    def _step(self) -> None:
        """One update, measured if the schedule has this step; at the last step a measurement without an update."""
        step = self.position
        self.batches.ready(step)
        if step == self.run.recipe.steps:
            reading = self.stepper.measure() if step in self.probe_steps else None
        elif step in self.probe_steps:
            reading = self.stepper.train_measured()
        else:
            reading = None
            self.stepper.train()
        if reading is not None:
            self.readings.add(step, reading)
        if self._clock.tick():
            self._report_phase("train")

    # rows of the curves

    def _row(self, host: RunCallbacks) -> None:
        """Add the rows of this step, all at the end, so that a stop in between leaves no trace."""
        step = self.position
        first_nonfinite = int(self.state.first_nonfinite)
        if first_nonfinite != NEVER and first_nonfinite < step:
            self.diverged_step = first_nonfinite
            return
        rows = [self._running_row()] if step > self.previous_row else []
        if step in self.eval_steps:
            self._report_phase("evaluate")
            rows += self._evaluation_rows(host)
            self._clock.restart()
        self.curves += rows
        self.state.sums.zero_()
        self.previous_row = step

    def _running_row(self) -> dict[str, Any]:
        examples = (self.position - self.previous_row) * self.run.recipe.batch
        loss, wrong = (self.state.sums / examples).tolist()
        return self._curve("train_running", "batch", loss, wrong, examples)

    def _evaluation_rows(self, host: RunCallbacks) -> list[dict[str, Any]]:
        measure, at_end = self.run.measure, self.position == self.run.recipe.steps
        examples = measure.final_examples if at_end else measure.eval_examples
        whole = len(STATISTICS) * sum(batches.count(examples) for batches in self.clean.values())
        watch = self._watching_evaluation(host, whole)
        rows = []
        for split, batches in self.clean.items():
            for statistics in STATISTICS:
                result = self.evaluate(EvalSplit(batches=batches, examples=examples, watch=watch), statistics)
                rows.append(self._curve(split, statistics, result.loss, result.error, result.examples))
        return rows

    def _watching_evaluation(self, host: RunCallbacks, whole: int) -> Callable[[], None]:
        """The callback for each of the ``whole`` batches of an evaluation: reports progress and may end it."""
        evaluated, reported = 0, time.monotonic()

        def watch() -> None:
            nonlocal evaluated, reported
            host.watch()
            if (now := time.monotonic()) - reported >= REPORT_SECONDS:
                self._report_phase("evaluating", (evaluated * self.team.count, whole))
                reported = now
            evaluated += 1

        return watch

    def _curve(self, split: str, statistics: str, loss: float, error: float, examples: int) -> dict[str, Any]:
        recipe, step = self.run.recipe, self.position
        return {
            "step": step,
            "epoch": recipe.batch * step / self.batches.examples,
            "split": split,
            "statistics": statistics,
            "loss": loss,
            "error": error,
            "examples": examples,
            "learning_rate": learning_rate(recipe, min(step, recipe.steps - 1)),
        }

    # reports and results

    def _report_phase(self, phase: Any, part: tuple[int, int] | None = None) -> None:
        last = self.curves[-1] if self.curves else {}
        self.report(
            Progress(
                run_id=self.run.run_id,
                phase=phase,
                step=self.position,
                steps=self.run.recipe.steps,
                loss=last.get("loss"),
                error=last.get("error"),
                images_per_second=None if part else self._clock.images_per_second(),
                part=part,
            )
        )

    def _note(self, message: str) -> None:
        """Report a request of the environment that was not met, and add it to the run's provenance."""
        self.facts["provenance"]["capture"] = message
        self.report(Progress(run_id=self.run.run_id, phase="note", message=message))

    def close(self) -> None:
        """End the worker processes that decode its images, if there are any."""
        self.batches.close()

    def frames(self) -> dict[str, pd.DataFrame]:
        """Every frame of the run, by name."""
        batch = {"split": "train_batch", "statistics": "batch", "examples": self.run.recipe.batch}
        return {"curves": schemas.frame("curves", self.curves)} | self.readings.frames(batch)

    def final_facts(self) -> dict[str, Any]:
        """The facts of a run that ended, with the order checksum and the step at which it diverged, if it did."""
        checksum = int(self.state.checksum) % 2**64
        return self.facts | {"order_checksum": f"{checksum:016x}", "diverged_step": self.diverged_step}

    def weights(self) -> bytes:
        """The current weights, batch-norm buffers and the mean image, as safetensors; classes by label as a fact."""
        step = min(self.position, self.run.recipe.steps)
        facts = {"run": self.run.model_dump(mode="json"), "step": step, "classes": self.classes}
        return encode_weights(self.state.network.state_dict(), self.batches.mean, facts)
