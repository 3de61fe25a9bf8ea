"""A study and the name of an experiment -> the frame of each of its finished runs, saved part by part."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load as load_weights

from degradation.data import resident
from degradation.errors import DamagedError, Interrupted, LockLost, UserError
from degradation.experiments import experiment_named
from degradation.experiments.experiment import Experiment, Settings
from degradation.experiments.trained_run import Subject
from degradation.frames import schemas
from degradation.runtime.environment import Environment, Options, choose_environment, provenance
from degradation.runtime.progress import OnProgress, Phase, Progress, silent
from degradation.runtime.signals import stop_requests
from degradation.store import FACTS, WEIGHTS, ExperimentFolder, StudyFolder, frame_file, snapshot_file
from degradation.study.results import Results
from degradation.training.execute import images_of

ShouldStop = Callable[[], bool]
STOPPING = Progress(run_id="", phase="note", message="stopping: the current part ends first")


@dataclass(frozen=True, kw_only=True)
class ExperimentOutcome:
    """The result of one experiment: ids of runs done, and for each run left out or failed the reason."""

    name: str
    settings: Settings
    done: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)


def resolve_settings(folder: ExperimentFolder, given: Mapping[str, int], *, anew: bool = False) -> Settings:
    """The settings of an experiment: those given override those on disk, which override the defaults.

    Raises UserError if a given setting differs from that of the runs on disk, unless ``anew``.
    """
    specs = (folder.spec(run_id) for run_id in folder.run_ids())
    on_disk: dict[str, int] = next((spec["settings"] for spec in specs if "settings" in spec), {})
    for name, value in given.items():
        if not anew and on_disk.get(name, value) != value:
            raise UserError(
                f"--{name} {value}: {folder.name} was begun with {on_disk[name]} in {folder.path}: leave it out, or "
                f"measure every run again with --anew"
            )
    return Settings(**(on_disk | dict(given)))


def prepare(
    folder: StudyFolder,
    name: str,
    options: Options,
    *,
    given: Mapping[str, int] | None = None,
    anew: bool = False,
    among: Collection[str] | None = None,
) -> "ExperimentTask":
    """Prepare the experiment on every finished run of the study or on those ``among`` ids; always in fp32.

    Raises UserError for settings that differ from those on disk, if the device does not exist, and for a study whose
    networks or images the experiments do not support.
    """
    place, results = folder.experiment(name), Results(folder)
    study = results.study
    if study.family != "cifar" or study.dataset.name == "folder":
        raise UserError(
            f"{results.name} trains family {study.family} on data set {study.dataset.name}: experiments on trained "
            "networks expect family cifar, whose blocks they modify, on images in memory"
        )
    return ExperimentTask(
        experiment=experiment_named(name),
        settings=resolve_settings(place, given or {}, anew=anew),
        results=results,
        among=tuple(run_id for run_id in results.run_ids if among is None or run_id in among),
        place=place,
        environment=choose_environment(options, "fp32", 1),
        options=options,
    )


def run_experiment(task: "ExperimentTask", report: OnProgress = silent) -> ExperimentOutcome:
    """Measure every run that is not measured yet. Done parts are saved: a later call continues.

    Raises Interrupted after SIGINT or SIGTERM.
    """
    task.environment.enter()
    failed = dict(task.damaged)
    with stop_requests(lambda: report(STOPPING)) as stop:
        for run_id in task.todo:
            if reason := task.attempt(run_id, report, stop):
                failed[run_id] = reason
            if stop.status:
                raise Interrupted(stop.status)
    done = tuple(run_id for run_id in task.fit if run_id not in failed and task.is_done(run_id))
    name, settings = task.experiment.name, task.settings
    return ExperimentOutcome(name=name, settings=settings, done=done, left_out=task.left_out, failed=failed)


@dataclass(frozen=True, kw_only=True)
class ExperimentTask:
    """One experiment on several runs, with the settings and environment that these share."""

    experiment: Experiment
    settings: Settings
    results: Results
    among: tuple[str, ...]
    place: ExperimentFolder
    environment: Environment
    options: Options

    @property
    def left_out(self) -> dict[str, str]:
        """Runs without usable weights, and the reason."""
        reports = {run_id: self.results.folder.done(run_id) for run_id in sorted(self.among)}
        reasons = {
            "it kept no final weights": [run_id for run_id in reports if not self.results.weights(run_id)],
            "its weights were deleted": [run_id for run_id in reports if WEIGHTS in reports[run_id].get("freed", {})],
            "it diverged": [run_id for run_id in reports if reports[run_id]["status"] == "diverged"],
        }
        return {run_id: reason for reason, run_ids in reasons.items() for run_id in run_ids}

    @property
    def fit(self) -> tuple[str, ...]:
        """Runs that can be measured."""
        left_out = self.left_out
        return tuple(run_id for run_id in self.among if run_id not in left_out)

    @property
    def todo(self) -> tuple[str, ...]:
        """Runs that are not measured yet, or with other settings or weights."""
        return tuple(run_id for run_id in self.fit if run_id not in self.damaged and not self.is_done(run_id))

    @cached_property
    def damaged(self) -> dict[str, str]:
        """Runs whose rows on disk have changed, and the damage: they are reported, and not measured again."""
        return {run_id: damage for run_id in self.fit if (damage := self.place.damage(run_id))}

    def spec(self, run_id: str) -> dict[str, Any]:
        """The settings and weights of a measurement, saved next to its rows."""
        weights = self.results.weights(run_id)
        return {"experiment": self.experiment.name, "settings": asdict(self.settings), "weights": weights}

    def is_done(self, run_id: str) -> bool:
        """Whether the run was measured with these settings and weights."""
        return self.place.is_done(run_id) and self.place.spec(run_id) == self.spec(run_id)

    def attempt(self, run_id: str, report: OnProgress, stop: ShouldStop) -> str:
        """Measure a run, until ``stop`` before a part. Returns the reason if it failed, else an empty text."""
        try:
            with self.place.lock(run_id) as locked:
                if not locked:
                    self._report(report, run_id, "waiting", message="another process measures it: passed over")
                elif not self.is_done(run_id):
                    self._measure(run_id, report, stop)
        except LockLost as error:
            self._report(report, run_id, "waiting", message=f"{error}: passed over")
        except UserError as error:
            return str(error)
        return ""

    def _measure(self, run_id: str, report: OnProgress, stop: ShouldStop) -> None:
        if not self._is_begun(run_id):
            self.place.discard(run_id)
            self.place.write_spec(run_id, self.spec(run_id))
        subject = self.subject(run_id)
        parts = self.experiment.parts(subject, self.settings)
        missing = self.missing(run_id, parts)
        saved = len(parts) - len(missing)
        self._report(report, run_id, "started", (saved, len(parts)))
        for done, part in enumerate(missing, start=saved + 1):
            if stop():
                return
            self.place.keep(run_id, _file(part), schemas.to_parquet(self.rows(subject, part), {}))
            self._report(report, run_id, "measure", (done, len(parts)))
        self._commit(run_id, parts)
        self._report(report, run_id, "finished", (len(parts), len(parts)))

    def remaining(self, run_id: str) -> list[str]:
        """The parts of a run that would be measured now."""
        if self.is_done(run_id):
            return []
        parts = self.experiment.parts(self.subject(run_id), self.settings)
        return self.missing(run_id, parts) if self._is_begun(run_id) else list(parts)

    def _is_begun(self, run_id: str) -> bool:
        """Whether the run was started with these settings and weights."""
        return run_id in self.place.run_ids() and self.place.spec(run_id) == self.spec(run_id)

    def missing(self, run_id: str, parts: Sequence[str]) -> list[str]:
        """The parts of a run that are not measured yet."""
        return [part for part in parts if self.place.kept(run_id, _file(part)) is None]

    def subject(self, run_id: str) -> Subject:
        """The run, ready for experiments. Raises DamagedError if it was trained on other images."""
        run = self.results.specs[run_id]
        weights = load_weights(self.results.folder.file(run_id, WEIGHTS))
        images = resident(images_of(run.dataset, self.options.data_dir))
        if not torch.equal(weights.pop("mean_image"), torch.from_numpy(images.mean_image)):
            raise DamagedError(
                f"{run_id} was trained on images with another mean than those in {images.source}: expected the same "
                f"data set; name its folder with --data-dir"
            )
        snapshots = {step: partial(self._snapshot, run_id, step) for step in self._kept_steps(run_id)}
        return Subject(run=run, images=images, weights=weights, environment=self.environment, snapshots=snapshots)

    def _kept_steps(self, run_id: str) -> list[int]:
        """The steps whose weights the run kept, and that were not deleted since."""
        files = self.results.folder.done(run_id)["files"]
        return [step for step in self.results.specs[run_id].measure.snapshots if snapshot_file(step) in files]

    def _snapshot(self, run_id: str, step: int) -> dict[str, torch.Tensor]:
        weights = load_weights(self.results.folder.file(run_id, snapshot_file(step)))
        del weights["mean_image"]
        return weights

    def rows(self, subject: Subject, part: str) -> pd.DataFrame:
        """The rows of a part with the experiment's columns in order and type. Raises ValueError for other columns."""
        rows, columns = self.experiment.measure(subject, self.settings, part), self.experiment.columns
        if differing := ", ".join(sorted(set(rows.columns) ^ set(columns))):
            raise ValueError(f"{self.experiment.name} {part}: columns other than those it names: {differing}")
        return rows[list(columns)].astype(dict(columns))

    def _commit(self, run_id: str, parts: Sequence[str]) -> None:
        files = [_file(part) for part in parts]
        rows = pd.concat([schemas.from_parquet(self._part(run_id, file)) for file in files], ignore_index=True)
        facts = {"provenance": provenance(self.environment)}
        content = {
            frame_file(self.experiment.name): schemas.to_parquet(rows, self.spec(run_id) | facts),
            FACTS: (json.dumps(facts, indent=1) + "\n").encode(),
        }
        self.place.commit(run_id, "finished", content, files)

    def _part(self, run_id: str, file: str) -> bytes:
        data = self.place.kept(run_id, file)
        if data is None:
            place = self.place.run_path(run_id) / file
            raise DamagedError(f"{place} was changed or deleted while it was under way: run the same command again")
        return data

    def _report(
        self, report: OnProgress, run_id: str, phase: Phase, done: tuple[int, int] = (0, 0), message: str = ""
    ) -> None:
        report(Progress(run_id=run_id, phase=phase, step=done[0], steps=done[1], unit="part", message=message))


def _file(part: str) -> str:
    return frame_file(f"part-{part}")
