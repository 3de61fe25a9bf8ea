"""Frames: columns and types in, the same out of parquet."""

import io
import json

import pandas as pd
import pyarrow.parquet as pq
import pytest

from degradation.frames import schemas

ROW = {"step": 0, "block": 1, "name": "layer1.0", "stage": 1, "split": "train_batch", "statistics": "batch"}
NUMBERS = {"branch_std": 1.0, "shortcut_std": 2.0, "ratio": 0.5}


def test_a_frame_has_the_columns_and_types_of_its_schema_even_without_rows():
    for name, schema in schemas.SCHEMAS.items():
        made = schemas.frame(name, [])
        assert list(made.columns) == list(schema)
        assert {column: str(kind) for column, kind in made.dtypes.items()} == schema


def test_parquet_gives_back_the_frame_and_carries_its_provenance(tmp_path):
    made = schemas.frame("branches", [ROW | NUMBERS])
    data = schemas.to_parquet(made, {"version": "1"})
    pd.testing.assert_frame_equal(schemas.from_parquet(data), made, check_dtype=False)
    (tmp_path / "f.parquet").write_bytes(data)
    assert json.loads(pq.read_schema(tmp_path / "f.parquet").metadata[b"degradation"]) == {"version": "1"}


def test_the_same_rows_are_the_same_bytes():
    made = schemas.frame("branches", [ROW | NUMBERS])
    assert schemas.to_parquet(made, {"v": 1}) == schemas.to_parquet(made.copy(), {"v": 1})


def test_a_row_with_a_column_too_many_or_too_few_is_refused():
    with pytest.raises(ValueError, match="no column accuracy"):
        schemas.frame("branches", [ROW | NUMBERS | {"accuracy": 1}])
    with pytest.raises(KeyError):
        schemas.frame("branches", [ROW])


def test_a_text_in_csv_is_no_formula_and_a_number_stays_a_number():
    texts = ["=1+1", "+1", "-1", "@SUM(A1)", "\ta", "plain", "a=b", None]
    data = pd.DataFrame({"arm": texts, "mixed": [1, "=x", *texts[2:]], "error": [-0.5] * 8})
    data["kind"] = data["arm"].astype("category")
    written = schemas.to_csv(data)
    found = pd.read_csv(io.BytesIO(written))
    expected = ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\ta", "plain", "a=b"]
    assert found["arm"].tolist()[:-1] == found["kind"].tolist()[:-1] == expected
    assert found["arm"].isna().tolist() == [False] * 7 + [True]
    assert found["mixed"].tolist()[:2] == ["1", "'=x"]
    assert (found["error"] == -0.5).all()
