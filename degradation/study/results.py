"""Run folders -> long frames: `load` reads a study, finished or not, without torch."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from pydantic import ValidationError

from degradation.errors import DamagedError, DamagedRun, UserError
from degradation.frames import concat, schemas
from degradation.frames.parquet import column_names, read_table
from degradation.spec import RunSpec, flatten, grid, leaves
from degradation.spec.validation import check_kind, shown, suggestion
from degradation.store import EXPERIMENTS, SPEC, StudyFolder, folder_at, frame_file
from degradation.study.library import stored
from degradation.study.notebook_view import overview
from degradation.study.snapshot import StudySnapshot, damaged_experiments, damaged_runs, each, take_snapshot

NAMES = ("runs", *schemas.SCHEMAS, *EXPERIMENTS)


class Results(Mapping[str, pd.DataFrame]):
    """The frames of a study by name; each is read at its first use.

    The names are ``runs`` (one row for each run), ``curves``, ``gradients``, ``responses``, ``branches``, and those of
    experiments. Frames hold only done runs; the frame of an experiment holds the runs that were measured.

    Attributes
    ----------
    study : StudySpec
        The specification of the study.
    run_ids : tuple of str
        The done runs.
    specs : dict
        Run id -> RunSpec.
    arms : dict
        Run id -> name of its arm; empty text in a study without arms.
    skipped : dict
        Damaged runs that were left out, with the damage.
    """

    def __init__(self, folder: StudyFolder, *, skip_damaged: bool = False) -> None:
        self.study = stored(folder)
        self.folder = take_snapshot(folder)
        self.name = folder.name
        self.skipped = self._damaged() if skip_damaged else {}
        """Skipped runs, and skipped experiments as ``lesion/RUN_ID`` -> the damage."""
        self.run_ids = tuple(run_id for run_id in self.folder.ended() if run_id not in self.skipped)
        self.specs: dict[str, RunSpec] = dict(zip(self.run_ids, each(self._spec, self.run_ids), strict=True))
        self.planned = grid.arms(self.study)
        """Every run of the study, done or not -> its arm."""
        self.arms: dict[str, str] = {run_id: self.planned.get(spec, "") for run_id, spec in self.specs.items()}
        self._read: dict[str, pd.DataFrame] = {}
        self._columns: dict[str, dict[str, pd.Series[Any]]] = {}

    def _damaged(self) -> dict[str, str]:
        """Every done run with a damaged file other than its weights, and damaged experiments -> the damage."""
        damaged = damaged_runs(self.folder)
        self.folder.damaged |= damaged
        return damaged | damaged_experiments(self.folder, EXPERIMENTS)

    def _spec(self, run_id: str) -> RunSpec:
        """The specification of a run. Raises DamagedRun if it is damaged, or a file of the run is missing."""
        try:
            run = self.folder.run(run_id)
        except DamagedError as error:
            raise DamagedRun(str(error)) from None
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            file = str(self.folder.run_path(run_id) / SPEC)
            parts = (file, ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, "))
            why = ": ".join(filter(None, parts))
            raise DamagedRun(f"{why}: restore it, or read it with what wrote it") from None
        self.folder.require(run_id, run)
        return run

    def __repr__(self) -> str:
        left_out = f", {len(self.skipped)} skipped" if self.skipped else ""
        return f"<Results of {self.name}: {len(self.run_ids)} of {len(self.planned)} runs done{left_out}>"

    def _repr_html_(self) -> str:
        """The table for a notebook; no file is read for it."""
        title = repr(self).strip("<>").replace("Results of", "Study", 1)
        return overview(title, self.study, self.planned, self.specs.values(), NAMES)

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

    def frame(self, name: str, columns: str | Sequence[str]) -> pd.DataFrame:
        """Read some measured columns of a frame, for large studies: no other column is read from disk.

        Parameters
        ----------
        name : str
            Name of the frame.
        columns : str or sequence of str
            Names of measured columns.

        Returns
        -------
        pandas.DataFrame
            ``run_id`` and the columns, one row for each measurement. Texts are categories in alphabetical order.

        Raises
        ------
        UserError
            There is no such frame, or no run has the column.

        Examples
        --------
        >>> import degradation
        >>> norms = degradation.load("reports/digits").frame("gradients", ("step", "layer", "weight_grad_norm"))
        >>> list(norms.columns)
        ['run_id', 'step', 'layer', 'weight_grad_norm']
        """
        if name not in NAMES:
            raise UserError(f"frame: expected {', '.join(NAMES)}, not {shown(name)}{suggestion(str(name), NAMES)}")
        check_kind("columns", columns, Iterable, "names of columns")
        columns = (columns,) if isinstance(columns, str) else tuple(columns)
        if name == "runs":
            self._check(name, columns, tuple(self[name].columns))
            return self[name][list(dict.fromkeys(("run_id", *columns)))]
        cache = self._columns.setdefault(name, {})
        missing = [column for column in columns if column not in cache]
        if missing or not cache:
            run_ids, tables = self._tables(name, missing)
            cache["run_id"] = concat.category(run_ids, [table.num_rows for table in tables])
            cache |= concat.compact(tables) if tables else {}
        names = ("run_id", *columns)
        if not len(cache["run_id"]):
            self._check(name, columns, schemas.SCHEMAS.get(name, columns))
            return pd.DataFrame(columns=list(names))
        self._check(name, columns, cache)
        return pd.DataFrame({column: cache[column] for column in names}, copy=False)

    def _check(self, name: str, columns: Sequence[str], existing: Collection[str]) -> None:
        """UserError for a column that does not exist."""
        if unknown := [column for column in columns if column not in ("run_id", *existing)]:
            known = self.columns(name) or tuple(existing)
            hint = suggestion(str(unknown[0]), known)
            raise UserError(f"frame {name} has no column {shown(unknown[0])}: expected {', '.join(known)}{hint}")

    def columns(self, name: str) -> tuple[str, ...]:
        """The measured columns of a frame, in the order of its first run; none without a run."""
        if name == "runs":
            return tuple(self[name].columns)
        folder, run_ids = self._with_frame(name)
        return column_names(folder.file(run_ids[0], frame_file(name))) if run_ids else ()

    @cached_property
    def axes(self) -> tuple[str, ...]:
        """Columns other than the keys that differ between runs: ``arm`` if there are arms; fields like ``shortcut``."""
        flat = self.fields.values()
        names = dict.fromkeys(name for fields in flat for name in fields)
        varied = {field for changes in self.study.arms.values() for field in leaves(changes)}
        derived = {*schemas.KEYS, *({"recipe.warmup_steps"} - varied)}
        varying = [name for name in names if len({str(fields.get(name)) for fields in flat}) > 1]
        return (*(["arm"] if self.study.arms else []), *(name for name in varying if name not in derived))

    @cached_property
    def fields(self) -> dict[str, dict[str, Any]]:
        """run_id -> every field of its specification under its dotted name."""
        return {run_id: flatten(spec) for run_id, spec in self.specs.items()}

    @cached_property
    def facts(self) -> dict[str, dict[str, Any]]:
        """run_id -> its facts: parameters, hashes, seconds, provenance."""
        return dict(zip(self.run_ids, each(self.folder.facts, self.run_ids), strict=True))

    @cached_property
    def status(self) -> dict[str, str]:
        """run_id -> finished or diverged."""
        return {run_id: str(self.folder.done(run_id)["status"]) for run_id in self.run_ids}

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Versions and machine of the runs: for each name its value, or the sorted values if runs differ."""
        of_runs = [facts["provenance"] for facts in self.facts.values()]
        names = dict.fromkeys(name for provenance in of_runs for name in provenance)
        values = {name: sorted({str(provenance.get(name)) for provenance in of_runs}) for name in names}
        return {name: different[0] if len(different) == 1 else different for name, different in values.items()}

    def _keys(self, run_id: str) -> dict[str, Any]:
        spec = self.specs[run_id]
        flat = self.fields[run_id] | {"arm": self.arms[run_id]}
        keys = {"study": self.name, "run_id": run_id, "network": spec.network, "depth": spec.depth, "seed": spec.seed}
        return keys | {axis: flat.get(axis) for axis in self.axes}

    def _frame(self, name: str) -> pd.DataFrame:
        run_ids, tables = self._tables(name)
        if not tables:
            return pd.DataFrame(columns=[*schemas.KEYS, *schemas.SCHEMAS.get(name, ())])
        rows = [table.num_rows for table in tables]
        measured = concat.stacked(tables)
        return pd.DataFrame(concat.keys([self._keys(run_id) for run_id in run_ids], rows) | measured, copy=False)

    def _tables(self, name: str, columns: Sequence[str] | None = None) -> tuple[list[str], list[pa.Table]]:
        """The runs that have a frame, and the verified table of each."""
        folder, run_ids = self._with_frame(name)
        return run_ids, each(lambda run_id: read_table(folder.file(run_id, frame_file(name)), columns), run_ids)

    def _with_frame(self, name: str) -> tuple[StudySnapshot, list[str]]:
        """The folder of a frame's files, and the runs that have one."""
        folder = self.folder.of_experiment(name) if name in EXPERIMENTS else self.folder
        return folder, [run_id for run_id in self.run_ids if self._has(folder, run_id, name)]

    def _has(self, folder: StudySnapshot, run_id: str, name: str) -> bool:
        """Whether the folder has the frame of a run; that of an experiment must be of the current weights."""
        if not folder.is_done(run_id) or f"{name}/{run_id}" in self.skipped:
            return False
        if frame_file(name) not in folder.done(run_id)["files"]:
            return False
        return folder is self.folder or folder.spec(run_id).get("weights") == self.weights(run_id)

    def weights(self, run_id: str) -> str | None:
        """The SHA-256 of a done run's final weights, present or deleted; None if it has none."""
        return self.folder.weights(run_id)

    def _runs(self) -> pd.DataFrame:
        rows = [self._run_row(run_id) for run_id in self.run_ids]
        return pd.DataFrame(rows) if rows else pd.DataFrame(columns=[*schemas.KEYS, "status"])

    def _run_row(self, run_id: str) -> dict[str, Any]:
        """Keys, fields, status, facts and provenance of a run, and the labels of the study."""
        row = self._keys(run_id)
        row |= {name: str(v) if isinstance(v, list) else v for name, v in self.fields[run_id].items()}
        row["status"] = self.status[run_id]
        row |= {name: fact for name, fact in self.facts[run_id].items() if name != "provenance"}
        row |= self.facts[run_id]["provenance"]
        row["labels"] = "; ".join(self.study.labels)
        return row


def load(folder: str | Path, *, skip_damaged: bool = False) -> Results:
    """Read the frames of a study.

    Parameters
    ----------
    folder : str or Path
        The study's folder, ``runs/quickstart``, or a URL, ``s3://bucket/runs/quickstart``.
    skip_damaged : bool
        Leave out runs with a damaged file; ``skipped`` of the result names them.

    Returns
    -------
    Results
        A mapping: name of a frame -> pandas frame. A frame is read at its first use.

    Raises
    ------
    UserError
        The folder holds no study.
    DamagedError
        A file is not as it was written.

    Examples
    --------
    >>> import degradation
    >>> results = degradation.load("reports/digits")
    >>> last = results["curves"].query("step == 800 and split == 'train' and statistics == 'batch'")
    >>> print((100 * last.groupby(["network", "depth"]).error.mean()).round(1).loc["plain"].to_dict())
    {8: 0.3, 20: 0.5, 32: 7.2, 44: 32.5, 56: 48.9, 110: 88.8}
    """
    check_kind("folder", folder, (str, Path), "the path or the URL of a study")
    return Results(folder_at(folder), skip_damaged=skip_damaged)
