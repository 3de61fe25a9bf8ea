"""Parquet bytes -> an arrow table, for readers with and without pandas."""

import io

import pyarrow as pa
import pyarrow.parquet as pq


def read_table(data: bytes) -> pa.Table:
    """The table in parquet bytes, read in this thread alone.

    Arrow's own threads, still alive as a short command exits, have been seen to abort it.
    """
    return pq.ParquetFile(io.BytesIO(data), pre_buffer=False).read(use_threads=False)
