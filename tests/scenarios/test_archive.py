"""History from an archive, on a real broker: what both hold together is what was sent, once each, or a loud stop."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from tests.scenarios.archives import DIRTY, EVENTS, INGEST, STALE, Mill, body, raw, wanted
from tests.scenarios.processes import rows
from tests.scenarios.test_kafka_avro import FIRST, READER
from tests.scenarios.test_kafka_avro import at as avro_at
from tests.scenarios.test_kafka_avro import first as avro_value
from tests.services.kafka import Kafka
from tidemill.errors import SourceError
from tidemill.planning.plan import explain, to_json
from tidemill.protocol import Point
from tidemill.testing.processes import Process

pytestmark = pytest.mark.spark

AVRO = """
name: clicks
source:
  kafka:
    servers: {servers}
    topics: [{topic}]
    format: avro
    schema: conf/click.avsc
    registry: {{path: conf/registry}}
    with: [offset]
    archive: ingest
event_time: {{column: at}}
interval: day
transform: {{sql: "SELECT id * {factor} AS id, at, user, offset FROM events"}}
gate: {{max_removed: null}}
sink: {{delta: {{path: data/clicks}}}}
"""


@pytest.fixture
def mill(tmp_path: Path, spark: SparkSession, kafka: Kafka, request: pytest.FixtureRequest) -> Mill:
    return Mill(tmp_path, spark, kafka, request.node.name.removeprefix("test_"))


def test_history_is_what_a_killed_ingest_and_the_broker_hold_together(mill: Mill) -> None:
    mill.write("ingest", INGEST.replace("with:", "max_offsets_per_batch: 10\n    with:"))
    mill.send(range(40))
    assert Process(mill.folder, "run", "ingest", crash=Point.COMMITTED, crash_nth=2).wait_killed()
    mill.run("events", "ingest")
    assert mill.landed() == raw(range(40))
    mill.send(range(40, 60))
    mill.run("events")
    mill.send(range(60, 66))  # beyond what the stream has read
    mill.forget(12)  # the archive ends at 20, and the stream's history at 30

    mill.write("events", EVENTS, factor=10)
    plan = mill.engine.plan("events", STALE)
    text = f"up to {mill.topic}/0 20, {mill.topic}/1 20 from ingest at version"
    assert any(text in line for line in explain(plan))
    mill.engine.backfill("events", STALE)
    assert mill.held() == wanted(range(60), 10)
    assert mill.engine.verify("events").holds

    # A plan reads what was there when it was made; a new one reads what has landed since.
    mill.write("events", EVENTS, factor=100)
    (mill.folder / "plan.json").write_text(json.dumps(to_json(mill.engine.plan("events", STALE))))
    mill.run("ingest")
    mill.forget(30)
    with pytest.raises(
        SourceError, match=r"offsets 20 to 29 are gone; the archive ingest.* has offsets 0 to 19"
    ):
        mill.engine.backfill(mill.engine.load_plan(mill.folder / "plan.json"))
    assert mill.held() == wanted(range(60), 10)
    mill.engine.backfill("events", STALE)
    assert mill.held() == wanted(range(60), 100)

    # What neither holds stops all that needs it, before anything is changed.
    mill.send(range(66, 80))
    mill.run("events")
    mill.forget(36)
    with pytest.raises(
        SourceError, match=r"offsets 33 to 35 are gone; the archive ingest.* has offsets 0 to 32"
    ):
        mill.engine.verify("events")
    with pytest.raises(SourceError, match="offsets 33 to 35 are gone"):
        mill.run("ingest")
    assert mill.held() == wanted(range(80), 100)


def test_history_that_the_archive_has_whole_asks_no_broker(mill: Mill) -> None:
    mill.send(range(30))
    mill.run("events", "ingest")
    mill.kafka.delete(mill.topic)
    mill.write("events", EVENTS, factor=3)
    mill.engine.backfill("events", STALE)
    assert mill.held() == wanted(range(30), 3)

    # A topic made anew has other records at those offsets, and one archive is not another's.
    mill.make_topic()
    mill.send(range(100, 160))
    with pytest.raises(SourceError, match="was made anew"):
        mill.run("ingest")
    assert mill.engine.verify("events").holds
    mill.write("ingest", INGEST.replace("data/raw", "data/anew"))
    mill.run("ingest")
    with pytest.raises(SourceError, match=r"ingest does not serve as history: the topic .* was made anew"):
        mill.engine.plan("events", STALE)
    assert mill.held() == wanted(range(30), 3)


def test_what_is_no_record_is_none_in_the_archive_and_can_be_released_from_there(mill: Mill) -> None:
    mill.send(range(4))
    bad = '{"id": 9, "at": "2024-05-01T04:00:00Z", "v": "nine"}'
    mill.kafka.produce(mill.topic, [bad, b"\xff"], partition=1, keys=["k9", "k10"])
    mill.run("events", "ingest")
    mill.forget(2)
    assert mill.held() == wanted(range(4))
    places = [f"{mill.topic}/1/2", f"{mill.topic}/1/3"]
    assert sorted(row["file"] for row in rows(mill.folder / "data/events_quarantine")) == places

    mill.write("events", EVENTS.replace("v BIGINT", "v STRING").replace("v * {factor}", "bigint(length(v))"))
    mill.engine.backfill("events", STALE)
    done = mill.engine.release(mill.engine.releasable("events"))
    assert (done.released, done.held) == (1, 1)
    lengths = Counter((n, len(str(n)), f"k{n}", n % 2, n // 2, None) for n in range(4))
    assert mill.held() == lengths + Counter({(9, 4, "k9", 1, 2, None): 1})
    assert [row["file"] for row in rows(mill.folder / "data/events_quarantine")] == places[1:]


def test_avro_values_are_decoded_from_the_archive_as_from_the_broker(mill: Mill) -> None:
    (mill.folder / "conf/registry").mkdir()
    (mill.folder / "conf/registry/1.avsc").write_text(FIRST)
    (mill.folder / "conf/click.avsc").write_text(READER)
    (mill.folder / "conf/pipelines/events.yml").unlink()
    mill.write("clicks", AVRO)
    mill.kafka.produce(mill.topic, [*map(avro_value, range(6)), b"no avro"])
    mill.run("clicks", "ingest")
    mill.kafka.produce(mill.topic, map(avro_value, range(6, 8)))
    mill.run("clicks")
    mill.kafka.forget(mill.topic, 0, 5)
    mill.write("clicks", AVRO, factor=10)
    mill.engine.backfill("clicks", STALE)
    found = Counter((r["id"], r["user"], r["offset"]) for r in rows(mill.folder / "data/clicks"))
    assert found == Counter((n * 10, "?", n + (n > 5)) for n in range(8))
    assert {r["at"].replace(tzinfo=None) for r in rows(mill.folder / "data/clicks")} == {
        avro_at(n).replace(tzinfo=None) for n in range(8)
    }


def test_an_archive_that_does_not_hold_every_record_serves_none(mill: Mill) -> None:
    mill.send(range(30))
    mill.run("events", "ingest")
    DeltaTable(str(mill.folder / "data/raw")).delete("offset = 3")
    mill.write("events", EVENTS, factor=2)
    with pytest.raises(SourceError, match=r"its interval 2024-05-01 is dirty: written by DELETE"):
        mill.engine.backfill("events", STALE)
    # The broker still has what was deleted.
    mill.engine.backfill("ingest", DIRTY)
    assert mill.landed() == raw(range(30))
    mill.engine.backfill("events", STALE)
    assert mill.held() == wanted(range(30), 2)

    # A time that no calendar knows: the record is set aside, and the archive lacks it.
    mill.kafka.produce(mill.topic, [body(30)], keys=["k30"], times=[10**15])
    mill.run("events", "ingest")
    with pytest.raises(SourceError, match="1 records were set aside or dropped, and are not in it"):
        mill.engine.verify("events")


def test_a_compacted_topic_has_no_archive(mill: Mill) -> None:
    mill.topic += "_compacted"
    mill.kafka.create(mill.topic, cleanup_policy="compact")
    mill.write("ingest", INGEST)
    mill.write("events", EVENTS)
    with pytest.raises(SourceError, match="is compacted"):
        mill.run("events")
