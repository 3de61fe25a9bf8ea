"""Arrow tables of many runs, and the keys of each run -> the columns of one long frame."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

Columns = dict[str, "pd.Series[Any]"]


def keys(runs: Sequence[Mapping[str, Any]], rows: Sequence[int]) -> Columns:
    """The keys of each run, repeated in each of its ``rows``; the types are those of joined frames of single runs."""
    kinds = [(*map(type, run.values()), count > 0) for run, count in zip(runs, rows, strict=True)]
    samples = dict(zip(kinds, zip(runs, rows, strict=True), strict=True))
    types = pd.concat([pd.DataFrame(run, index=range(min(count, 1))) for run, count in samples.values()]).dtypes
    positions = np.repeat(np.arange(len(runs)), rows)
    columns = {str(name): pd.Series([run[name] for run in runs], dtype=types[name]) for name in runs[0]}
    return {name: pd.Series(column.array.take(positions)) for name, column in columns.items()}


def category(values: Sequence[str], rows: Sequence[int]) -> "pd.Series[Any]":
    """The text of each run, repeated in each of its ``rows``: categories in alphabetical order."""
    names, codes = np.unique(np.array(values, dtype=object), return_inverse=True)
    return pd.Series(pd.Categorical.from_codes(np.repeat(codes, rows), categories=pd.Index(list(names))))


def spread(run_ids: "pd.Series[Any]", values: Mapping[str, str], order: Sequence[str] = ()) -> "pd.Series[Any]":
    """For a column of run ids, the text of each run: categories in the given ``order``, else sorted."""
    coded = run_ids.astype("category")
    names = list(order) or sorted({values[run_id] for run_id in coded.cat.categories})
    code_of = {name: number for number, name in enumerate(names)}
    codes = np.array([code_of[values[run_id]] for run_id in coded.cat.categories], dtype="int32")
    return pd.Series(pd.Categorical.from_codes(codes[coded.cat.codes], categories=pd.Index(names)), index=run_ids.index)


def stacked(tables: list[pa.Table]) -> Columns:
    """The columns of the concatenated tables, in the types that pandas gives each; empties the list."""
    first = tables[0]
    if all(table.schema.equals(first.schema) and _types(table) == _types(first) for table in tables):
        return _columns(pa.concat_tables(_drained(tables)))
    parts = [table.to_pandas() for table in _drained(tables)]  # written by different versions
    return dict(pd.concat(parts, ignore_index=True).items())


def _types(table: pa.Table) -> list[Any]:
    """The pandas types that the columns were written from."""
    return [column["numpy_type"] for column in (table.schema.pandas_metadata or {"columns": []})["columns"]]


def compact(tables: list[pa.Table]) -> Columns:
    """The columns of the concatenated tables: numbers, and texts as categories in alphabetical order.

    Empties the list, as ``stacked`` does: arrow's memory is freed column by column while pandas allocates its own.
    """
    whole = pa.concat_tables(
        [table.replace_schema_metadata() for table in _drained(tables)], promote_options="permissive"
    )
    for number, field in enumerate(whole.schema):
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            whole = whole.set_column(number, field.name, whole.column(number).dictionary_encode())
    return {name: _sorted(column) for name, column in _columns(whole.unify_dictionaries()).items()}


def _drained(tables: list[pa.Table]) -> list[pa.Table]:
    """The tables, in a new list; the given list is emptied."""
    moved = tables[:]
    tables.clear()
    return moved


def _columns(table: pa.Table) -> Columns:
    return dict(table.to_pandas(split_blocks=True, self_destruct=True).items())


def _sorted(column: "pd.Series[Any]") -> "pd.Series[Any]":
    is_text = isinstance(column.dtype, pd.CategoricalDtype)
    return column.cat.reorder_categories(sorted(column.cat.categories)) if is_text else column
