"""`execute`: one RunSpec -> its run folder, from the start or from its checkpoint. The unit of work of any launcher."""

import json
from collections.abc import Callable
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Literal

from degradation import frames
from degradation.data import AnyImages, load_images
from degradation.environment import Environment, continued
from degradation.errors import DamagedError
from degradation.progress import Progress, Report
from degradation.spec import Dataset, RunSpec, canonical
from degradation.store import FACTS, WEIGHTS, StudyFolder, frame_file, snapshot_file
from degradation.training.checkpoint import Checkpoint, decode, encode
from degradation.training.loop import Host, Stopped, Training

Ending = Literal["finished", "diverged", "held", "stopped"]


@lru_cache(maxsize=1)
def images_of(dataset: Dataset, data_dir: Path | None) -> AnyImages:
    """The data set, read once a process."""
    return load_images(dataset, data_dir)


class Execution:
    """One run in its folder, between the training that knows no disk and the store that knows no training."""

    def __init__(self, run: RunSpec, folder: StudyFolder, report: Report, should_stop: Callable[[], bool]) -> None:
        self.run, self.folder, self.report, self.should_stop = run, folder, report, should_stop
        self.run_id = run.run_id

    def carry_out(self, environment: Environment, images: AnyImages, save_seconds: float) -> Ending:
        """Train to the end or to a stop; the run's lock is held by the caller."""
        self.folder.write_spec(self.run_id, self.run.model_dump(mode="json"))
        found = self._checkpoint()
        if found is not None:
            environment = continued(environment, found.facts["environment"])
        with closing(Training(self.run, images, environment, self.report)) as training:
            return self._through(training, found, save_seconds)

    def _through(self, training: Training, found: Checkpoint | None, save_seconds: float) -> Ending:
        if found is not None:
            training.resume(found)
        self._tell("started", training, f"continued from step {training.position}" if found else "")
        host = Host(
            should_stop=self.should_stop,
            save=lambda: self._save(training),
            keep_snapshot=lambda step: self.folder.write_file(self.run_id, snapshot_file(step), training.weights()),
            save_seconds=save_seconds,
        )
        try:
            training.train(host)
        except Stopped:
            self._save(training)
            return "stopped"
        return self._commit(training)

    def _checkpoint(self) -> Checkpoint | None:
        """The run's checkpoint; a damaged one is kept aside and the run begins anew, which loses nothing more."""
        data = self.folder.checkpoint(self.run_id)
        if data is None:
            return None
        try:
            found = decode(data)
            if found.facts["run"] != canonical(self.run):
                raise DamagedError("the checkpoint is that of another run")
            return found
        except DamagedError as error:
            self.folder.set_checkpoint_aside(self.run_id)
            message = f"{error}: it is kept as damaged.safetensors and the run starts again at step 0"
            self.report(Progress(run_id=self.run_id, phase="started", message=message))
            return None

    def _save(self, training: Training) -> None:
        self.folder.write_checkpoint(self.run_id, encode(training.checkpoint()))

    def _commit(self, training: Training) -> Ending:
        facts = training.final_facts()
        said = {"run_id": self.run_id, "run": self.run.model_dump(mode="json"), "provenance": facts["provenance"]}
        files = {frame_file(name): frames.to_parquet(frame, said) for name, frame in training.frames().items()}
        files[WEIGHTS] = training.weights()
        files[FACTS] = (json.dumps(facts, indent=1) + "\n").encode()
        ending: Literal["finished", "diverged"] = "finished" if training.diverged_step is None else "diverged"
        message = "" if ending == "finished" else f"the loss was not finite at step {training.diverged_step}"
        self.folder.commit(self.run_id, ending, files)
        self._tell(ending, training, message)
        return ending

    def _tell(self, phase: Literal["started", "finished", "diverged"], training: Training, message: str) -> None:
        steps = self.run.recipe.steps
        step = min(training.position, steps)
        self.report(Progress(run_id=self.run_id, phase=phase, step=step, steps=steps, message=message))


def execute(
    run: RunSpec,
    folder: StudyFolder,
    environment: Environment,
    report: Report,
    should_stop: Callable[[], bool] = lambda: False,
    *,
    data_dir: Path | None = None,
    save_seconds: float = 60.0,
) -> Ending:
    """Carry out one run: ``finished`` or ``diverged`` when it is done, ``stopped`` with a checkpoint where asked to,
    ``held`` where another process is training it. Raises UseError where data or disk refuse.
    """
    with folder.lock(run.run_id) as held:
        if not held:
            return "held"
        if folder.is_done(run.run_id):
            status: Ending = folder.done(run.run_id)["status"]
            return status
        images = images_of(run.dataset, data_dir)
        return Execution(run, folder, report, should_stop).carry_out(environment, images, save_seconds)
