"""Which writer a table needs, decided from its log alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tidemill.sinks import writer

PLAIN = {"minReaderVersion": 1, "minWriterVersion": 2}


def field(name: str = "v", kind: Any = "integer", *, nullable: bool = True, **tags: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "nullable": nullable, "metadata": tags}


def metadata(*fields: dict[str, Any], **configuration: str) -> dict[str, Any]:
    schema = {"type": "struct", "fields": list(fields or (field(),))}
    return {
        "schemaString": json.dumps(schema),
        "configuration": configuration,
        "partitionColumns": ["event_date"],
    }


def features(*names: str) -> dict[str, Any]:
    return {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": list(names)}


@pytest.mark.parametrize(
    ("protocol", "described"),
    [
        (PLAIN, metadata()),
        ({"minReaderVersion": 1, "minWriterVersion": 4}, metadata()),
        # A feature that is only supported, and that nothing in the table uses, asks for nothing.
        (
            features("appendOnly", "invariants", "checkConstraints", "generatedColumns", "timestampNtz"),
            metadata(),
        ),
        (features("changeDataFeed"), metadata(**{"delta.enableChangeDataFeed": "true"})),
        (features("v2Checkpoint"), metadata(**{"delta.checkpointPolicy": "v2"})),
        (PLAIN, metadata(**{"delta.columnMapping.mode": "none"})),
        (PLAIN, metadata(field("s", {"type": "struct", "fields": [field("x")]}))),
    ],
)
def test_log_commits_are_chosen_where_nothing_more_is_asked(
    protocol: dict[str, Any], described: dict[str, Any]
):
    assert writer.decide(protocol, described) == writer.Writer("log commit")


STRUCT = {"type": "struct", "fields": [field("x", nullable=False)]}


@pytest.mark.parametrize(
    ("protocol", "described", "why"),
    [
        (features("deletionVectors"), metadata(), "deletion vectors"),
        (features("columnMapping"), metadata(**{"delta.columnMapping.mode": "name"}), "column mapping"),
        (features("rowTracking", "domainMetadata"), metadata(), "the feature domainMetadata, row tracking"),
        (features("inCommitTimestamp"), metadata(), "in-commit timestamps"),
        (features("icebergCompatV2"), metadata(), "the feature icebergCompatV2"),
        (features("typeWidening"), metadata(), "type widening"),
        (features("fromTheFuture"), metadata(), "the feature fromTheFuture"),
        ({**PLAIN, "minWriterVersion": 7, "readerFeatures": ["new"]}, metadata(), "the feature new"),
        ({"minReaderVersion": 2, "minWriterVersion": 5}, metadata(), "writer version 5"),
        ({"minReaderVersion": 3, "minWriterVersion": 8}, metadata(), "writer version 8"),
        (PLAIN, metadata(**{"delta.constraints.pos": "v > 0"}), "the CHECK constraint pos"),
        (
            PLAIN,
            metadata(**{"delta.constraints.b": "v > 0", "delta.constraints.a": "v < 9"}),
            "the CHECK constraints a, b",
        ),
        (PLAIN, metadata(field("w", **{"delta.generationExpression": "v * 2"})), "the generated column w"),
        (PLAIN, metadata(field("n", **{"delta.identity.start": 1})), "the identity column n"),
        (PLAIN, metadata(field("v", nullable=False)), "a rule on the column v"),
        (PLAIN, metadata(field("v", **{"delta.invariants": "{}"})), "a rule on the column v"),
        (PLAIN, metadata(field("s", STRUCT)), "a rule on the column s.x"),
        (
            PLAIN,
            metadata(field("l", {"type": "array", "elementType": STRUCT, "containsNull": True})),
            "a rule on the column l.x",
        ),
        (PLAIN, metadata(field("c", "string", __CHAR_VARCHAR_TYPE_STRING="varchar(3)")), "a length limit on the column c"),
    ],
)  # fmt: skip
def test_spark_is_chosen_and_says_why(protocol: dict[str, Any], described: dict[str, Any], why: str):
    chosen = writer.decide(protocol, described)
    assert (chosen.kind, chosen.why) == ("spark", f"the table has {why}")
    assert chosen.text == f"Spark's Delta writer: the table has {why}"


def test_append_only_keeps_its_writer_and_says_what_will_be_refused():
    chosen = writer.decide(PLAIN, metadata(**{"delta.appendOnly": "true"}))
    assert (chosen.kind, chosen.append_only) == ("log commit", True)
    assert "append-only" in chosen.text


class Log:
    """A Delta log written by hand."""

    def __init__(self, table: Path) -> None:
        self.table = table
        self.folder = table / "_delta_log"
        self.folder.mkdir(parents=True)

    def commit(self, version: int, *actions: dict[str, Any]) -> None:
        (self.folder / f"{version:020d}.json").write_text("\n".join(map(json.dumps, actions)))


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "t")


def test_a_table_that_is_not_there_is_made_for_log_commits(tmp_path: Path):
    assert writer.choose(str(tmp_path / "none")).text == "one log commit"


def test_the_newest_metadata_counts(log: Log):
    checked = metadata(**{"delta.constraints.pos": "v > 0"})
    log.commit(0, {"commitInfo": {}}, {"protocol": PLAIN}, {"metaData": metadata()})
    log.commit(1, {"commitInfo": {}}, {"metaData": checked})
    log.commit(2, {"commitInfo": {}}, {"add": {"path": "x"}})
    assert writer.choose(str(log.table)).why == "the table has the CHECK constraint pos"
    log.commit(3, {"commitInfo": {}}, {"metaData": metadata()})
    assert writer.choose(str(log.table)).kind == "log commit"


def test_a_cleaned_log_is_read_from_its_checkpoint(log: Log):
    rows = [
        {"protocol": features("deletionVectors"), "metaData": None},
        {"protocol": None, "metaData": {"schemaString": metadata()["schemaString"], "configuration": [("a", "b")]}},
    ]  # fmt: skip
    kinds = pa.schema(
        [
            (
                "protocol",
                pa.struct(
                    [
                        ("minReaderVersion", pa.int32()),
                        ("minWriterVersion", pa.int32()),
                        ("writerFeatures", pa.list_(pa.string())),
                    ]
                ),
            ),
            (
                "metaData",
                pa.struct(
                    [("schemaString", pa.string()), ("configuration", pa.map_(pa.string(), pa.string()))]
                ),
            ),
        ]
    )
    table = pa.Table.from_pylist(rows, schema=kinds)
    pq.write_table(table, log.folder / f"{7:020d}.checkpoint.parquet")
    log.commit(8, {"commitInfo": {}}, {"add": {"path": "x"}})
    assert writer.choose(str(log.table)).why == "the table has deletion vectors"
    # A commit after the checkpoint is newer than it.
    log.commit(9, {"commitInfo": {}}, {"protocol": PLAIN})
    assert writer.choose(str(log.table)).kind == "log commit"


def test_a_checkpoint_of_the_second_kind_is_read_too(log: Log):
    body = [
        {"checkpointMetadata": {}},
        {"protocol": PLAIN},
        {"metaData": metadata(field("v", nullable=False))},
    ]
    (log.folder / f"{4:020d}.checkpoint.0e5f.json").write_text("\n".join(map(json.dumps, body)))
    assert writer.choose(str(log.table)).why == "the table has a rule on the column v"
