"""The frames: columns, types and units of every table of a study; rows -> pandas -> parquet bytes.

All frames are long: one row per measurement, scalars only. A row at step s describes the network after s
updates. Errors are fractions 0..1; losses are mean cross-entropies in nats; norms are L2.
"""

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from degradation.frames.parquet import read_table

Row = Mapping[str, Any]

INTEGER, REAL, TEXT = "int64", "float64", "string"

SCHEMAS: dict[str, dict[str, str]] = {
    "curves": {
        "step": INTEGER,  # updates made before this row
        "epoch": REAL,  # batch * step / examples
        "split": TEXT,  # train_running: mean since the last row over augmented batches; train, val, test: clean
        "statistics": TEXT,  # batch-norm statistics: batch or running
        "loss": REAL,  # mean cross-entropy, nats
        "error": REAL,  # a fraction, 0 to 1
        "examples": INTEGER,  # images that the row is of
        "learning_rate": REAL,  # of the update made at this step; at the last step, of the one before
    },
    "gradients": {
        "step": INTEGER,
        "layer": INTEGER,  # 1-based: the 6n+1 convolutions in order, then the linear layer
        "name": TEXT,  # the weight's module, e.g. layer1.0.conv1
        "stage": INTEGER,  # 1, 2, 3 by feature-map size; 4 for the linear layer, after the global pool
        "weight_grad_norm": REAL,  # L2 norm of the gradient of the mean loss, before weight decay
        "weight_norm": REAL,  # L2 norm of the weight
        "update_norm": REAL,  # of the update made at this step; missing at the last step, which makes none
        "response_grad_norm": REAL,  # gradient with respect to the layer's response, whole batch
        "response_grad_rms": REAL,  # the same per value: its root mean square
    },
    "responses": {
        "step": INTEGER,
        "layer": INTEGER,
        "name": TEXT,
        "stage": INTEGER,
        "split": TEXT,  # train_batch: the augmented training batch of this step
        "statistics": TEXT,
        "examples": INTEGER,
        "mean": REAL,  # pooled over examples, channels and positions
        "std": REAL,  # population, pooled over examples, channels and positions
        "zero_fraction": REAL,  # share of values that a ReLU would set to zero (response <= 0)
    },
    "branches": {
        "step": INTEGER,
        "block": INTEGER,  # 1-based, in order
        "name": TEXT,  # e.g. layer1.0
        "stage": INTEGER,
        "split": TEXT,
        "statistics": TEXT,
        "branch_std": REAL,  # std of F(x), as in responses
        "shortcut_std": REAL,  # std of what is added to it
        "ratio": REAL,  # branch_std / shortcut_std
    },
}

KEYS = ("study", "run_id", "network", "depth", "seed")
"""Columns that `load` puts before the measured ones, together with every other axis that varies in the study."""


def frame(name: str, rows: Sequence[Row]) -> pd.DataFrame:
    """The rows as a frame of the named kind: its columns in order, with its types.

    Raises KeyError if a row lacks a column, ValueError if one has an unknown column.
    """
    names = rows[0] if rows else SCHEMAS[name]
    return table(name, {column: [row[column] for row in rows] for column in names})


def table(name: str, columns: Mapping[str, Any]) -> pd.DataFrame:
    """The columns as a frame of the named kind: in order, with its types; a scalar is repeated in every row.

    Raises KeyError if a column is missing, ValueError if one is unknown.
    """
    schema = SCHEMAS[name]
    if unknown := set(columns) - set(schema):
        raise ValueError(f"{name} has no column {', '.join(sorted(unknown))}")
    return pd.DataFrame({column: columns[column] for column in schema}).astype(schema)


def to_parquet(data: pd.DataFrame, provenance: Mapping[str, Any]) -> bytes:
    """The frame as parquet, with the provenance as JSON under the metadata key ``degradation``.

    A study has four small frames per run. Half of such a file would be Arrow's own copy of the schema and statistics of
    each column, which are never used: they are omitted. Measured numbers rarely repeat, so they have no dictionary.
    """
    table = pa.Table.from_pandas(data, preserve_index=False)
    metadata = dict(table.schema.metadata or {}) | {b"degradation": json.dumps(provenance).encode()}
    repeating = [field.name for field in table.schema if not pa.types.is_floating(field.type)]
    buffer = io.BytesIO()
    with pq.ParquetWriter(
        buffer,
        table.schema,
        compression="zstd",
        use_dictionary=repeating,
        write_statistics=False,
        store_schema=False,
    ) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(metadata)
    return buffer.getvalue()


FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters of a cell that a spreadsheet would compute."""


def to_csv(data: pd.DataFrame) -> bytes:
    """The frame as CSV. A text that a spreadsheet would take for a formula gets an apostrophe in front."""

    def quoted(value: Any) -> Any:
        return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value

    texts = data.select_dtypes(["str", "object", "category"])
    without_formulas = data.assign(**{str(name): texts[name].map(quoted) for name in texts})
    return without_formulas.to_csv(index=False, lineterminator="\n").encode()


def from_parquet(data: bytes) -> pd.DataFrame:
    """The frame that ``to_parquet`` wrote."""
    data_frame: pd.DataFrame = read_table(data).to_pandas()
    return data_frame
