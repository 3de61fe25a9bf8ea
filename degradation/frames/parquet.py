"""Parquet bytes -> an arrow table, for readers with and without pandas."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq


def read_table(data: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """The table in parquet bytes, or some of its columns, in the file's order; read without Arrow's threads.

    Those were seen to abort a short command when they were still alive at its exit.
    """
    file = pq.ParquetFile(pa.BufferReader(data), pre_buffer=False)
    return file.read(columns=None if columns is None else list(columns), use_threads=False)


def column_names(data: bytes) -> tuple[str, ...]:
    """The names of the columns in parquet bytes, in order; no value is read."""
    return tuple(pq.read_schema(pa.BufferReader(data)).names)
