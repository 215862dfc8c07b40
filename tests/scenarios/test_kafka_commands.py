"""Commands through a broker: delivered twice and in two partitions, each is decided once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.bank_check import check_store
from jobs.bank_commands import commands
from jobs.bank_fees import fee
from tests.events.banks import bank_project, engine_of, run
from tests.services.kafka import Kafka

pytestmark = pytest.mark.spark

STORE = """
name: bank
source:
  kafka:
    servers: {servers}
    pattern: "{topic}"
    schema: "id STRING, type STRING, subject STRING, time TIMESTAMP, data STRING"
    max_offsets_per_batch: 40
event_time: {{column: time}}
interval: day
transform: [{{decide: "jobs.bank:BANK"}}]
sink: {{delta: {{path: data/tables/bank}}}}
trigger: {{available_now: true}}
"""


def test_each_command_of_a_topic_is_decided_once(
    kafka: Kafka, topic: str, tmp_path: Path, spark: SparkSession
) -> None:
    project = bank_project(tmp_path, alone=True)
    (project / "conf/pipelines/bank.yml").write_text(STORE.format(servers=kafka.servers, topic=topic))
    given = [each for some in commands(accounts=4, files=2, each=40) for each in some]
    texts = [json.dumps(each) for each in given]
    half = len(texts) // 2
    kafka.produce(topic, texts[:half], partition=0)
    assert run(project, spark) >= 2
    # A sender that did not hear of it sends all of it again, to wherever.
    kafka.produce(topic, texts, partition=1)
    run(project, spark)
    # A store that has lost its checkpoint reads on where it had ended, wherever new streams begin; a topic that the pattern finds
    # by now, from its first record.
    shutil.rmtree(project / "data/tables/bank/_tidemill/checkpoint")
    pipeline = project / "conf/pipelines/bank.yml"
    pipeline.write_text(pipeline.read_text().replace("pattern:", "starting: latest\n    pattern:"))
    more = [each for some in commands(accounts=4, files=1, each=10, seed=8) for each in some]
    more = [{**each, "id": f"more-{each['id']}"} for each in more]
    kafka.create(f"{topic}_since", partitions=1)
    kafka.produce(topic, [json.dumps(each) for each in more[::2]], partition=0)
    kafka.produce(f"{topic}_since", [json.dumps(each) for each in more[1::2]], partition=0)
    run(project, spark)
    given += more
    assert engine_of(project, spark).view("bank").coverage.recent[-1].input_rows == len(more)
    found = check_store(project / "data/tables", given, fee, saga=False)
    assert found.wrong == []
    assert found.events + found.rejections == len({each["id"] for each in given})
    again = engine_of(project, spark).redecide("bank")
    assert (again.holds, again.commands, again.gone) == (True, found.events + found.rejections, 0)
