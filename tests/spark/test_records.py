"""Records of brokers as rows: what is one JSON object, and what only begins with one."""

from __future__ import annotations

import json

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from tidemill.config import parse_pipeline
from tidemill.sources.records import record_rows
from tidemill.sources.rows import CORRUPT

pytestmark = pytest.mark.spark

OBJECTS = (
    '{"id":1}',
    ' {"id": 1 }',
    '{"id":1,"in":{"id":2}}',
    '{"in":{"a":[{"b":{}},"}]"]},"id":1}',
    '{"text":"}{ ] \\" ü","id":1}',
    '{"id":1,"list":[{},[{"id":3}]],"n":-1.5e3,"none":null,"yes":true}',
)
FOLLOWS = (
    "",
    " \t\r\n",
    '{"id":2}',
    '\n{"id":2}',
    ',{"id":2}',
    " x",
    "}",
    "]",
    "]}",
    '}{"id":2}',
    ", 5]",
    ',"in":5',
)
FOLLOWS += ("] ,", "[", "5", "null", '"', ":", ',{"end":true}]', "/* */", "\\", "\0")


def one_object(text: str) -> bool:
    _, end = json.JSONDecoder().raw_decode(text.lstrip())
    return not text.lstrip()[end:].strip(" \t\r\n")


def test_what_follows_an_object_is_no_record(spark: SparkSession) -> None:
    values = {
        "name": "events",
        "source": {"rabbitmq": {"url": "amqp://broker", "queue": "q", "schema": "id BIGINT"}},
        "event_time": {"column": "id"},
        "interval": "day",
        "sink": {"delta": {"path": "out"}},
    }
    source = parse_pipeline(values, "project").inputs["events"].rabbitmq
    assert source is not None
    texts = [each + after for each in OBJECTS for after in FOLLOWS]
    # Quotes that only some parsers take, Spark's among them.
    wanted = {each: one_object(each) for each in texts} | {
        "{'in':{},'id':1}": True,
        "{'in':{},'id':1} {}": False,
    }
    frame = spark.createDataFrame([(each.encode(),) for each in wanted], "body BINARY")

    rows = record_rows(frame, source, "body", beside=[], added=[F.col("body").alias("_tidemill_place")])

    found = {bytes(row[-1]).decode(): (row["id"], row[CORRUPT]) for row in rows.collect()}
    assert len(found) == len(wanted) > 100
    assert {text: corrupt is None for text, (_, corrupt) in found.items()} == wanted
    assert {number for number, _ in found.values()} == {1}
    assert all(corrupt in (None, text) for text, (_, corrupt) in found.items())
