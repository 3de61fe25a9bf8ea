"""Run folders -> long frames: `load` reads a study, finished or not, without torch."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import pyarrow as pa
from pydantic import ValidationError

from degradation.errors import DamagedError, DamagedRun, UserError
from degradation.frames import concat, schemas
from degradation.frames.parquet import column_names, read_table
from degradation.spec import RunSpec, flatten, grid, leaves
from degradation.spec.validation import check_kind, shown, suggestion
from degradation.store import EXPERIMENTS, SPEC, Place, StudyFolder, folder_at, frame_file
from degradation.study.library import stored
from degradation.study.notebook_view import overview
from degradation.study.snapshot import StudySnapshot, damage, damaged_experiments, each, take_snapshot

T = TypeVar("T")
NAMES = ("runs", *schemas.SCHEMAS, *EXPERIMENTS)


class Results(Mapping[str, pd.DataFrame]):
    """The frames of a study by name; each is read when it is first asked for.

    The names are ``runs`` (one row for each run), ``curves``, ``gradients``, ``responses``, ``branches``, and those of
    experiments. Only done runs are in them, and in the frame of an experiment the runs that it was done on.

    Attributes
    ----------
    study : StudySpec
        What the study is.
    run_ids : tuple of str
        The done runs.
    specs : dict
        Run id -> RunSpec.
    arms : dict
        Run id -> name of its arm; empty text in a study without arms.
    skipped : dict
        Damaged runs that were left out, and why.
    """

    def __init__(self, folder: StudyFolder, *, skip_damaged: bool = False) -> None:
        study = stored(folder)
        self.folder = take_snapshot(folder)
        self.name = folder.name
        self.study = study
        self.skipped = self._damaged() if skip_damaged else {}
        """Damaged runs that are skipped, and experiments as ``lesion/RUN_ID``; the damage of each."""
        self.run_ids = tuple(run_id for run_id in self.folder.ended() if run_id not in self.skipped)
        self.specs: dict[str, RunSpec] = dict(zip(self.run_ids, each(self._spec, self.run_ids), strict=True))
        self.planned = grid.arms(self.study)
        """Every run of the study, done or not, and its arm."""
        self.arms: dict[str, str] = {run_id: self.planned.get(spec, "") for run_id, spec in self.specs.items()}
        self._read: dict[str, pd.DataFrame] = {}
        self._columns: dict[str, dict[str, pd.Series[Any]]] = {}

    def _damaged(self) -> dict[str, str]:
        """Every done run with a damaged file other than its weights, and the damage."""
        ended = self.folder.ended()
        notes = dict(zip(ended, each(lambda run_id: damage(self.folder, run_id), ended), strict=True))
        found = {run_id: note for run_id, note in notes.items() if note}
        self.folder.damaged |= found
        return found | damaged_experiments(self.folder, EXPERIMENTS)

    def _spec(self, run_id: str) -> RunSpec:
        try:
            run = _checked(lambda: self.folder.run(run_id), self.folder.run_path(run_id) / SPEC)
        except DamagedError as error:
            raise DamagedRun(str(error)) from None
        self.folder.require(run_id, run)
        return run

    def __repr__(self) -> str:
        left_out = f", {len(self.skipped)} skipped" if self.skipped else ""
        return f"<Results of {self.name}: {len(self.run_ids)} of {len(self.planned)} runs done{left_out}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: no file is read for it."""
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
        there = self._columns.setdefault(name, {})
        missing = [column for column in columns if column not in there]
        if missing or not there:
            run_ids, tables = self._tables(name, missing)
            there["run_id"] = concat.category(run_ids, [table.num_rows for table in tables])
            there |= concat.compact(tables) if tables else {}
        wanted = ("run_id", *columns)
        if not len(there["run_id"]):
            self._check(name, columns, schemas.SCHEMAS.get(name, columns))
            return pd.DataFrame(columns=list(wanted))
        self._check(name, columns, there)
        return pd.DataFrame({column: there[column] for column in wanted}, copy=False)

    def _check(self, name: str, columns: Sequence[str], there: Collection[str]) -> None:
        if odd := [column for column in columns if column not in ("run_id", *there)]:
            known = self.columns(name) or tuple(there)
            hint = suggestion(str(odd[0]), known)
            raise UserError(f"frame {name} has no column {shown(odd[0])}: expected {', '.join(known)}{hint}")

    def columns(self, name: str) -> tuple[str, ...]:
        """The measured columns of a frame, in order, as its first run has them; none without a run."""
        if name == "runs":
            return tuple(self[name].columns)
        folder, have = self._having(name)
        return column_names(folder.file(have[0], frame_file(name))) if have else ()

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
        """run_id -> what became known of it."""
        return dict(zip(self.run_ids, each(self.folder.facts, self.run_ids), strict=True))

    @cached_property
    def status(self) -> dict[str, str]:
        """run_id -> finished or diverged."""
        return {run_id: str(self.folder.done(run_id)["status"]) for run_id in self.run_ids}

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """What made the runs: for each fact its value, or the sorted values where runs differ."""
        facts = [facts["provenance"] for facts in self.facts.values()]
        names = dict.fromkeys(name for fact in facts for name in fact)
        values = {name: sorted({str(fact.get(name)) for fact in facts}) for name in names}
        return {name: found[0] if len(found) == 1 else found for name, found in values.items()}

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
        """The runs that have a frame, and the table of each, verified."""
        folder, have = self._having(name)

        def read(run_id: str) -> pa.Table:
            return read_table(folder.file(run_id, frame_file(name)), columns)

        return have, each(read, have)

    def _having(self, name: str) -> tuple[StudySnapshot, list[str]]:
        """Where the files of a frame lie, and the runs that have one."""
        folder = self.folder.of_experiment(name) if name in EXPERIMENTS else self.folder
        return folder, [run_id for run_id in self.run_ids if self._has(folder, run_id, name)]

    def _has(self, folder: StudySnapshot, run_id: str, name: str) -> bool:
        """Whether the folder holds the frame of a run; an experiment's is that of the weights that are there now."""
        if not folder.is_done(run_id) or f"{name}/{run_id}" in self.skipped:
            return False
        if frame_file(name) not in folder.done(run_id)["files"]:
            return False
        return folder is self.folder or folder.spec(run_id).get("weights") == self.weights(run_id)

    def weights(self, run_id: str) -> str | None:
        """The SHA-256 of a done run's final weights, deleted since or not; None if it kept none."""
        return self.folder.weights(run_id)

    def _runs(self) -> pd.DataFrame:
        labels = {"labels": "; ".join(self.study.labels)}
        rows = [self._run_row(run_id) | labels for run_id in self.run_ids]
        return pd.DataFrame(rows) if rows else pd.DataFrame(columns=[*schemas.KEYS, "status"])

    def _run_row(self, run_id: str) -> dict[str, Any]:
        facts = {name: fact for name, fact in self.facts[run_id].items() if name != "provenance"}
        provenance = self.facts[run_id]["provenance"]
        fields = {name: str(v) if isinstance(v, list) else v for name, v in self.fields[run_id].items()}
        status = {"status": self.status[run_id]}
        row: dict[str, Any] = self._keys(run_id) | fields | status | facts | provenance
        return row


def _checked(read: Callable[[], T], file: Place) -> T:
    """What was read; DamagedError, in one line, where the file's fields are not those of a specification."""
    try:
        return read()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        parts = (str(file), ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, "))
        raise DamagedError(f"{': '.join(filter(None, parts))}: restore it, or read it with what wrote it") from None


def load(folder: str | Path, *, skip_damaged: bool = False) -> Results:
    """Read the frames of a study.

    Parameters
    ----------
    folder : str or Path
        The study's folder, ``runs/quickstart``, or a URL, ``s3://bucket/runs/quickstart``.
    skip_damaged : bool
        Leave out runs of which a file is not what was written; ``skipped`` of the result names them.

    Returns
    -------
    Results
        A mapping: name of a frame -> pandas frame. A frame is read when it is first asked for.

    Raises
    ------
    UserError
        The folder holds no study.
    DamagedError
        A file is not what was written.

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
