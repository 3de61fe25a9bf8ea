"""`execute`: one RunSpec -> its run folder, from the start or from its checkpoint. The unit of work of any launcher.

If several processes share a run, the leader executes it and the others `assist`.
"""

import json
import math
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch

from degradation import networks
from degradation.data import AnyImages, load_images
from degradation.errors import DamagedError, LockLost, ProcessGroupLost
from degradation.frames import schemas
from degradation.runtime.environment import Environment, continued
from degradation.runtime.progress import OnProgress, Progress, silent
from degradation.spec import Dataset, RunSpec, canonical
from degradation.store import DAMAGED, FACTS, WEIGHTS, StudyFolder, frame_file, snapshot_file
from degradation.training.checkpoint import Checkpoint, decode, encode
from degradation.training.process_group import ProcessGroup, team_of
from degradation.training.step import State
from degradation.training.trainer import RunCallbacks, Stopped, Training

Ending = Literal["finished", "diverged", "held", "stopped"]


@lru_cache(maxsize=1)
def images_of(dataset: Dataset, data_dir: Path | None) -> AnyImages:
    """The data set; read once per process."""
    return load_images(dataset, data_dir)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run as the leader sends it to the other processes."""

    run: RunSpec
    environment: Environment
    checkpoint: Checkpoint | None
    data_dir: Path | None

    def training(self, images: AnyImages, report: OnProgress, team: ProcessGroup) -> Training:
        """The run's training, from its start or from the checkpoint."""
        training = Training(self.run, images, self.environment, report, team)
        if self.checkpoint is not None:
            training.resume(self.checkpoint)
        return training


class Execution:
    """One run in its folder: connects the training, which knows no disk, and the store, which knows no training."""

    def __init__(self, run: RunSpec, folder: StudyFolder, report: OnProgress, should_stop: Callable[[], bool]) -> None:
        self.run, self.folder, self.report, self.should_stop = run, folder, report, should_stop
        self.run_id = run.run_id

    def train(self, environment: Environment, images: AnyImages, data_dir: Path | None, save_seconds: float) -> Ending:
        """Train to the end or to a stop; the run's lock is held by the caller."""
        self.folder.write_spec(self.run_id, self.run.model_dump(mode="json"))
        checkpoint = self._checkpoint()
        if checkpoint is not None:
            environment = continued(environment, checkpoint.facts["environment"])
        job = Job(run=self.run, environment=environment, checkpoint=checkpoint, data_dir=data_dir)
        team = team_of(environment)
        team.hand_out(job)
        with closing(job.training(images, self.report, team)) as training:
            return self._through(training, checkpoint is not None, save_seconds)

    def _through(self, training: Training, continued: bool, save_seconds: float) -> Ending:
        self._report("started", training, f"continued from step {training.position:,}" if continued else "")
        host = RunCallbacks(
            should_stop=training.team.stop(self.should_stop),
            save=lambda: self._save(training),
            keep_snapshot=lambda step: self.folder.keep(self.run_id, snapshot_file(step), training.weights()),
            save_seconds=save_seconds,
        )
        try:
            training.train(host)
        except Stopped:
            self._save(training)
            return "stopped"
        return self._commit(training)

    def _checkpoint(self) -> Checkpoint | None:
        """The run's checkpoint; a damaged one is renamed and the run starts again."""
        try:
            data = self.folder.checkpoint(self.run_id)
            if data is None:
                return None
            checkpoint = decode(data)
            if checkpoint.facts["run"] != canonical(self.run):
                raise DamagedError("the checkpoint is that of another run")
            check_fit(self.run, checkpoint)
            self._check_snapshots(checkpoint.facts["position"])
            return checkpoint
        except DamagedError as error:
            action = f"kept as {DAMAGED}" if self.folder.set_checkpoint_aside(self.run_id) else "deleted"
            message = f"{error}: it is {action} and the run starts again at step 0"
            self.report(Progress(run_id=self.run_id, phase="started", message=message))
            return None

    def _check_snapshots(self, position: int) -> None:
        """DamagedError if a snapshot from before step ``position`` is missing or was changed."""
        for step in self.run.measure.snapshots:
            if step < position and self.folder.kept(self.run_id, snapshot_file(step)) is None:
                raise DamagedError(f"{snapshot_file(step)} was changed or deleted while the run was under way")

    def _save(self, training: Training) -> None:
        self.folder.write_checkpoint(self.run_id, encode(training.checkpoint()))

    def _commit(self, training: Training) -> Ending:
        facts = training.final_facts()
        metadata = {"run_id": self.run_id, "run": self.run.model_dump(mode="json"), "provenance": facts["provenance"]}
        files = {frame_file(name): schemas.to_parquet(frame, metadata) for name, frame in training.frames().items()}
        files[WEIGHTS] = training.weights()
        files[FACTS] = (json.dumps(facts, indent=1) + "\n").encode()
        self._check_snapshots(training.position)
        self.folder.write_spec(self.run_id, self.run.model_dump(mode="json"))  # the folder may have been deleted
        ending: Literal["finished", "diverged"] = "finished" if training.diverged_step is None else "diverged"
        message = "" if ending == "finished" else f"the loss was not finite at step {training.diverged_step}"
        self.folder.commit(self.run_id, ending, files)
        self._report(ending, training, message)
        return ending

    def _report(self, phase: Literal["started", "finished", "diverged"], training: Training, message: str) -> None:
        steps = self.run.recipe.steps
        step = min(training.position, steps)
        self.report(Progress(run_id=self.run_id, phase=phase, step=step, steps=steps, message=message))


def check_fit(run: RunSpec, checkpoint: Checkpoint) -> None:
    """DamagedError if a tensor of the run's state is missing in a checkpoint, or has another type or shape."""
    expected = State(networks.for_run(run, init_weights=False), run.recipe, torch.device("cpu")).tensors()
    for name, tensor in expected.items():
        saved = checkpoint.tensors.get(name)
        if saved is None or (saved.dtype, saved.shape) != (tensor.dtype, tensor.shape):
            raise DamagedError(f"the checkpoint has different {name} than this version")


def execute(
    run: RunSpec,
    folder: StudyFolder,
    environment: Environment,
    report: OnProgress,
    should_stop: Callable[[], bool] = lambda: False,
    *,
    data_dir: Path | None = None,
    save_seconds: float = 60.0,
) -> Ending:
    """Execute one run: ``finished`` or ``diverged`` if it is done, ``stopped`` with a checkpoint after a stop request,
    ``held`` if another process is training it or has taken it over. Raises UserError if data or disk cannot be used.
    """
    folder.store.attend(lambda line: report(Progress(run_id=run.run_id, phase="note", message=line)), should_stop)
    try:
        with folder.lock(run.run_id) as held:
            if not held:
                return "held"
            folder.remove_half_written(run.run_id)
            if folder.is_done(run.run_id):
                status: Ending = folder.done(run.run_id)["status"]
                return status
            images = images_of(run.dataset, data_dir)
            return Execution(run, folder, report, should_stop).train(environment, images, data_dir, save_seconds)
    except LockLost as error:
        if environment.processes > 1:  # the others are in the middle of a step
            raise ProcessGroupLost(f"{run.run_id}: {error}", own=True) from error
        return "held"


def assist(team: ProcessGroup, should_stop: Callable[[], bool]) -> None:
    """The loop of all processes except rank 0: share run after run without output, until the leader ends it."""
    while (job := team.receive()) is not None:
        host = RunCallbacks(
            should_stop=team.stop(should_stop),
            save=lambda: None,
            keep_snapshot=lambda step: None,
            save_seconds=math.inf,
        )
        images = images_of(job.run.dataset, job.data_dir)
        with closing(job.training(images, silent, team)) as training, suppress(Stopped):
            training.train(host)
