"""Run folders -> long frames: `load` reads a study, finished or not, without torch."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from pydantic import ValidationError

from degradation import frames, plan
from degradation.errors import DamagedError, UseError
from degradation.spec import RunSpec, StudySpec, flatten, leaves, upgrade
from degradation.store import SPEC, STUDY, WEIGHTS, Place, StudyFolder, folder_at, frame_file

T = TypeVar("T")
NAMES = ("runs", *frames.SCHEMAS, *frames.EXPERIMENTS)


class Results(Mapping[str, pd.DataFrame]):
    """The frames of a study by name: ``runs`` and those of ``degradation.frames``; read when first asked for.

    Only done runs are in them; in those of ``frames.EXPERIMENTS`` the runs that were experimented on. ``study`` is the
    StudySpec, ``provenance`` what made the runs, ``arms`` the name of each run's arm (empty in a study without arms).
    """

    def __init__(self, folder: StudyFolder) -> None:
        fields = folder.study()
        if fields is None:
            raise UseError(f"{folder.path} holds no study: expected a folder that `degradation run` made")
        self.folder = folder
        self.name = folder.name
        self.study = _checked(lambda: StudySpec.model_validate(fields), folder.path / STUDY)
        listed = folder.listed()
        self.run_ids = tuple(run_id for run_id in listed.run_ids() if listed.is_done(run_id))
        self.specs: dict[str, RunSpec] = {run_id: self._spec(run_id) for run_id in self.run_ids}
        planned = plan.arms(self.study)
        self.arms: dict[str, str] = {run_id: planned.get(spec, "") for run_id, spec in self.specs.items()}
        self._read: dict[str, pd.DataFrame] = {}

    def _spec(self, run_id: str) -> RunSpec:
        return _checked(lambda: upgrade(self.folder.spec(run_id)), self.folder.run_path(run_id) / SPEC)

    def __getitem__(self, name: str) -> pd.DataFrame:
        if name not in NAMES:
            raise KeyError(f"no frame {name!r}; the frames are {', '.join(NAMES)}")
        if name not in self._read:
            self._read[name] = self._runs() if name == "runs" else self._frame(name)
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(NAMES)

    def __len__(self) -> int:
        return len(NAMES)

    @property
    def axes(self) -> tuple[str, ...]:
        """Columns beside the keys that differ between runs: ``arm`` where there are any; fields like ``shortcut``."""
        flat = [flatten(spec) for spec in self.specs.values()]
        names = dict.fromkeys(name for fields in flat for name in fields)
        varied = {field for changes in self.study.arms.values() for field in leaves(changes)}
        derived = {*frames.KEYS, *({"recipe.warmup_steps"} - varied)}
        varying = [name for name in names if len({str(fields.get(name)) for fields in flat}) > 1]
        return (*(["arm"] if self.study.arms else []), *(name for name in varying if name not in derived))

    @property
    def provenance(self) -> dict[str, Any]:
        """What made the runs: for each fact its value, or the sorted values where runs differ."""
        facts = [self.folder.facts(run_id)["provenance"] for run_id in self.run_ids]
        names = dict.fromkeys(name for fact in facts for name in fact)
        values = {name: sorted({str(fact.get(name)) for fact in facts}) for name in names}
        return {name: found[0] if len(found) == 1 else found for name, found in values.items()}

    def _keys(self, run_id: str) -> dict[str, Any]:
        spec = self.specs[run_id]
        flat = flatten(spec) | {"arm": self.arms[run_id]}
        keys = {"study": self.name, "run_id": run_id, "network": spec.network, "depth": spec.depth, "seed": spec.seed}
        return keys | {axis: flat.get(axis) for axis in self.axes}

    def _frame(self, name: str) -> pd.DataFrame:
        parts = []
        for run_id in self.run_ids:
            folder = self.folder.experiment(name) if name in frames.EXPERIMENTS else self.folder
            if self._has(folder, run_id, name):
                part = frames.from_parquet(folder.file(run_id, frame_file(name)))
                parts.append(pd.DataFrame(self._keys(run_id), index=part.index).join(part))
        if not parts:
            return pd.DataFrame(columns=[*frames.KEYS, *frames.SCHEMAS.get(name, ())])
        return pd.concat(parts, ignore_index=True)

    def _has(self, folder: StudyFolder, run_id: str, name: str) -> bool:
        """Whether the folder holds the frame of a run; an experiment's is that of the weights that are there now."""
        if not folder.is_done(run_id) or frame_file(name) not in folder.done(run_id)["files"]:
            return False
        return folder is self.folder or folder.spec(run_id).get("weights") == self.weights(run_id)

    def weights(self, run_id: str) -> str | None:
        """The SHA-256 of a done run's final weights; None where it kept none."""
        found: str | None = self.folder.done(run_id)["files"].get(WEIGHTS)
        return found

    def _runs(self) -> pd.DataFrame:
        rows = [self._run_row(run_id) for run_id in self.run_ids]
        return pd.DataFrame(rows) if rows else pd.DataFrame(columns=[*frames.KEYS, "status"])

    def _run_row(self, run_id: str) -> dict[str, Any]:
        facts = self.folder.facts(run_id)
        provenance = facts.pop("provenance")
        fields = {name: str(v) if isinstance(v, list) else v for name, v in flatten(self.specs[run_id]).items()}
        status = {"status": self.folder.done(run_id)["status"]}
        labels = {"labels": "; ".join(self.study.labels)}
        row: dict[str, Any] = self._keys(run_id) | fields | status | facts | provenance | labels
        return row


def _checked(read: Callable[[], T], file: Place) -> T:
    """What was read; DamagedError, in one line, where the file's fields are not those of a specification."""
    try:
        return read()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise DamagedError(f"{file}: {field}: {first['msg']}: restore it, or read it with what wrote it") from None


def load(folder: str | Path) -> Results:
    """The frames of a study: ``load("runs/quickstart")["curves"]`` is a pandas frame; ``s3://...`` is read as well.

    Raises UseError where the folder holds no study, DamagedError where a file read is not what was written.
    """
    return Results(folder_at(folder))
