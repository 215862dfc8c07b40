"""Which keys repeat in files, and where a suite may ask it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.quality.feed import suite
from tests.quality.keys import counts, unique
from tidemill.config import parse_pipeline
from tidemill.errors import ConfigError
from tidemill.quality.unique import repeated


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    keys=st.lists(st.tuples(st.sampled_from([None, 1, 2, 3]), st.sampled_from([None, "a", "b"])), max_size=9)
)
def test_what_repeats_is_what_python_counts(tmp_path: Path, keys: list[tuple[int | None, str | None]]):
    half, rows = len(keys) // 2, [{"n": n, "t": t} for n, t in keys]
    schema = pa.schema([("n", pa.int64()), ("t", pa.string()), ("other", pa.int64())])
    files = [tmp_path / "1.parquet", tmp_path / "2.parquet"]
    for file, part in zip(files, (rows[:half], rows[half:]), strict=True):
        pq.write_table(pa.Table.from_pylist(part, schema), file)
    assert repeated(files, ["n"]) == counts(rows, "n")
    assert repeated(files, ["n", "t"]) == counts(rows, "n", "t")


@pytest.mark.parametrize(
    ("each", "more", "said"),
    [
        (
            {
                "type": "expect_column_values_to_not_be_null",
                "kwargs": {"column": "at"},
                "meta": {"action": "quarantine"},
            },
            {},
            "no interval that they could be released into",
        ),
        (unique("hour"), {}, "within is no 'hour'"),
        (
            {
                "type": "expect_column_values_to_not_be_null",
                "kwargs": {"column": "id"},
                "meta": {"within": "batch"},
            },
            {},
            "has no within",
        ),
        (unique("batch", "drop"), {}, "drop acts on rows"),
        (unique("batch", column="id", row_condition="v > 1"), {}, "row_condition"),
        (
            unique("batch"),
            {"sink": {"delta": {"path": "t", "mode": "upsert", "key": ["id"], "order_by": ["v"]}}},
            "one row a key",
        ),
    ],
)
def test_what_cannot_be_asked(tmp_path: Path, each: dict[str, Any], more: dict[str, Any], said: str):
    values = {
        "name": "feed",
        "source": {"files": {"path": "in", "format": "json", "schema": "id INT, at TIMESTAMP, v INT"}},
        "event_time": {"column": "at"},
        "interval": "day",
        "quality": {"suite": suite(each)},
        "sink": {"delta": {"path": "t"}},
    }
    with pytest.raises(ConfigError, match=said):
        parse_pipeline({**values, **more}, tmp_path)
