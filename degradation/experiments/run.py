"""A study and the name of an experiment -> the frame of each of its finished runs, kept part by part."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
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
from degradation.store import FACTS, WEIGHTS, ExperimentFolder, StudyFolder, frame_file
from degradation.study.results import Results
from degradation.training.execute import images_of

ShouldStop = Callable[[], bool]


STOPPING = Progress(run_id="", phase="note", message="stopping: the current part ends first")


@dataclass(frozen=True, kw_only=True)
class ExperimentOutcome:
    """What became of one experiment: ids of runs done, and for each left out or failed the line that says why."""

    name: str
    settings: Settings
    done: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)


def resolve_settings(folder: ExperimentFolder, given: Mapping[str, int], *, anew: bool = False) -> Settings:
    """The settings of an experiment: those given, over those that it was started with, over the defaults.

    Raises UserError if one given differs from what runs on disk were measured with, unless ``again``.
    """
    specs = (folder.spec(run_id) for run_id in folder.run_ids())
    kept: dict[str, int] = next((spec["settings"] for spec in specs if "settings" in spec), {})
    for name, value in given.items():
        if not anew and kept.get(name, value) != value:
            raise UserError(
                f"--{name} {value}: {folder.name} was begun with {kept[name]} in {folder.path}: leave it out, or "
                f"measure every run again with --anew"
            )
    return Settings(**(kept | dict(given)))


def prepare(
    folder: StudyFolder,
    name: str,
    options: Options,
    *,
    given: Mapping[str, int] | None = None,
    anew: bool = False,
    among: Collection[str] | None = None,
) -> "ExperimentTask":
    """The experiment on every finished run of the study or on those ``among`` ids, in fp32 whatever they had.

    Raises UserError for settings that differ from those on disk, and where the device is not there.
    """
    place, results = folder.experiment(name), Results(folder)
    _check_reach(results)
    return ExperimentTask(
        experiment=experiment_named(name),
        settings=resolve_settings(place, given or {}, anew=anew),
        results=results,
        among=tuple(run_id for run_id in results.run_ids if among is None or run_id in among),
        place=place,
        environment=choose_environment(options, "fp32", 1),
        options=options,
    )


def _check_reach(results: Results) -> None:
    """UserError if a study's networks or images are not those that the experiments can take."""
    study = results.study
    if study.family != "cifar" or study.dataset.name == "folder":
        raise UserError(
            f"{results.name} trains family {study.family} on data set {study.dataset.name}: experiments on trained "
            "networks expect family cifar, whose blocks they modify, on images in memory"
        )


def run_experiment(work: "ExperimentTask", report: OnProgress = silent) -> ExperimentOutcome:
    """Measure every run that is not measured yet. Done parts are kept: a later call continues.

    Raises Interrupted after SIGINT or SIGTERM.
    """
    work.environment.enter()
    failed = dict(work.damaged)
    with stop_requests(lambda: report(STOPPING)) as stop:
        for run_id in work.todo:
            if why := work.attempt(run_id, report, stop):
                failed[run_id] = why
            if stop.status:
                raise Interrupted(stop.status)
    done = tuple(run_id for run_id in work.fit if run_id not in failed and work.is_done(run_id))
    return ExperimentOutcome(
        name=work.experiment.name, settings=work.settings, done=done, left_out=work.left_out, failed=failed
    )


@dataclass(frozen=True, kw_only=True)
class ExperimentTask:
    """One experiment under way: what all of its runs share."""

    experiment: Experiment
    settings: Settings
    results: Results
    among: tuple[str, ...]
    place: ExperimentFolder
    environment: Environment
    options: Options

    @property
    def left_out(self) -> dict[str, str]:
        """Runs with nothing to experiment on, and why."""
        lost = {run_id for run_id in self.among if self._status(run_id) == "diverged"}
        bare = {run_id for run_id in self.among if not self.results.weights(run_id)}
        freed = {run_id for run_id in self.among if WEIGHTS in self.results.folder.done(run_id).get("freed", {})}
        reasons = {"it kept no final weights": bare, "its weights were deleted": freed, "it diverged": lost}
        return {run_id: why for why, found in reasons.items() for run_id in sorted(found)}

    def _status(self, run_id: str) -> str:
        return str(self.results.folder.done(run_id)["status"])

    @property
    def fit(self) -> tuple[str, ...]:
        """Runs that can be measured."""
        without = self.left_out
        return tuple(run_id for run_id in self.among if run_id not in without)

    @property
    def todo(self) -> tuple[str, ...]:
        """Runs that are not measured yet, or not as asked."""
        return tuple(run_id for run_id in self.fit if run_id not in self.damaged and not self.is_done(run_id))

    @cached_property
    def damaged(self) -> dict[str, str]:
        """Runs whose rows on disk are not what was written, and how: they are named, and not measured over."""
        notes = {run_id: self.place.damage(run_id) for run_id in self.fit}
        return {run_id: why for run_id, why in notes.items() if why}

    def asked(self, run_id: str) -> dict[str, Any]:
        """The settings and weights of a measurement, kept next to its rows."""
        weights = self.results.weights(run_id)
        return {"experiment": self.experiment.name, "settings": asdict(self.settings), "weights": weights}

    def is_done(self, run_id: str) -> bool:
        """Whether the run was measured, and as asked."""
        return self.place.is_done(run_id) and self.place.spec(run_id) == self.asked(run_id)

    def attempt(self, run_id: str, report: OnProgress, stop: ShouldStop) -> str:
        """Measure a run until ``stop``, before any part; the line that says why it failed, empty if it did not."""
        try:
            with self.place.lock(run_id) as held:
                if not held:
                    self._report(report, run_id, "waiting", message="another process measures it: passed over")
                elif not self.is_done(run_id):
                    self._measure(run_id, report, stop)
        except LockLost as lost:
            self._report(report, run_id, "waiting", message=f"{lost}: passed over")
        except UserError as error:
            return str(error)
        return ""

    def _measure(self, run_id: str, report: OnProgress, stop: ShouldStop) -> None:
        if not self._is_begun(run_id):
            self.place.discard(run_id)
            self.place.write_spec(run_id, self.asked(run_id))
        of = self.subject(run_id)
        parts = self.experiment.parts(of, self.settings)
        had = len(parts) - len(self.missing(run_id, parts))
        self._report(report, run_id, "started", (had, len(parts)))
        for part in self.missing(run_id, parts):
            if stop():
                return
            rows = self.rows(of, part)
            self.place.keep(run_id, _file(part), schemas.to_parquet(rows, {}))
            had += 1
            self._report(report, run_id, "measure", (had, len(parts)))
        self._commit(run_id, parts)
        self._report(report, run_id, "finished", (len(parts), len(parts)))

    def left(self, run_id: str) -> list[str]:
        """The parts of a run that would be measured now."""
        if self.is_done(run_id):
            return []
        parts = self.experiment.parts(self.subject(run_id), self.settings)
        return self.missing(run_id, parts) if self._is_begun(run_id) else list(parts)

    def _is_begun(self, run_id: str) -> bool:
        """Whether what is there of a run was started as asked."""
        return run_id in self.place.run_ids() and self.place.spec(run_id) == self.asked(run_id)

    def missing(self, run_id: str, parts: Sequence[str]) -> list[str]:
        """The parts of a run that are not measured yet."""
        return [part for part in parts if self.place.kept(run_id, _file(part)) is None]

    def subject(self, run_id: str) -> Subject:
        """The run, ready to be experimented on. DamagedError if its images are not those that it was trained on."""
        run = self.results.specs[run_id]
        weights = load_weights(self.results.folder.file(run_id, WEIGHTS))
        images = resident(images_of(run.dataset, self.options.data_dir))
        if not torch.equal(weights.pop("mean_image"), torch.from_numpy(images.mean_image)):
            raise DamagedError(
                f"{run_id} was trained on images with another mean than those in {images.source}: expected the same "
                f"data set; name its folder with --data-dir"
            )
        return Subject(run=run, images=images, weights=weights, environment=self.environment)

    def rows(self, of: Subject, part: str) -> pd.DataFrame:
        """The rows of a part with the experiment's columns, in order, in their types; ValueError for any other."""
        rows, columns = self.experiment.measure(of, self.settings, part), self.experiment.columns
        if set(rows.columns) != set(columns):
            odd = ", ".join(sorted(set(rows.columns) ^ set(columns)))
            raise ValueError(f"{self.experiment.name} {part}: columns other than those it names: {odd}")
        return rows[list(columns)].astype(dict(columns))

    def _commit(self, run_id: str, parts: Sequence[str]) -> None:
        files = [_file(part) for part in parts]
        rows = pd.concat([schemas.from_parquet(self._part(run_id, file)) for file in files], ignore_index=True)
        facts = {"provenance": provenance(self.environment)}
        written = {
            frame_file(self.experiment.name): schemas.to_parquet(rows, self.asked(run_id) | facts),
            FACTS: (json.dumps(facts, indent=1) + "\n").encode(),
        }
        self.place.commit(run_id, "finished", written, files)

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
