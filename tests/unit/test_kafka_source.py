from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tidemill.config import parse_pipeline
from tidemill.config.fingerprint import fingerprint
from tidemill.config.project import json_schema, load_project
from tidemill.errors import ConfigError, SourceError, StateError
from tidemill.ledger import inputs, schemas, topics
from tidemill.ledger.schemas import Writer
from tidemill.model import Registry
from tidemill.sources import registry
from tidemill.sources.kafka_offsets import check_same

KAFKA: dict[str, Any] = {"servers": "broker:9092", "topics": ["a", "b"], "schema": "id BIGINT, at TIMESTAMP"}


def pipeline(**changes: Any) -> dict[str, Any]:
    kafka = {key: value for key, value in (KAFKA | changes).items() if value is not None}
    return {
        "name": "events",
        "source": {"kafka": kafka},
        "event_time": {"column": "at"},
        "interval": "day",
        "sink": {"delta": {"path": "out"}},
    }


def parsed(**changes: Any) -> Any:
    return parse_pipeline(pipeline(**changes), "project")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"topics": None}, "exactly one of: topics, pattern, partitions"),
        ({"pattern": "a.*"}, "exactly one of: topics, pattern, partitions"),
        ({"partitions": {"a": [0]}}, "exactly one of: topics, pattern, partitions"),
        ({"topics": None, "partitions": {"a": []}}, "partitions of a: name each once"),
        ({"topics": None, "partitions": {"a": [1, 1]}}, "partitions of a: name each once"),
        ({"starting": "now"}, "'earliest' or 'latest'"),
        ({"starting": {"a": {0: 1}}}, "each topic that is read, with each of its partitions: a, b"),
        ({"starting": {"a": {0: -3}, "b": {0: 0}}}, "an offset is 0 or greater"),
        ({"topics": None, "partitions": {"a": [0, 1]}, "starting": {"a": {0: 5}}}, "each partition of a"),
        ({"topics": ["a,b"]}, "a topic's name is made of"),
        ({"topics": ["a.*"]}, "a regular expression is a pattern"),
        ({"topics": ["a", "a"]}, "stands twice"),
        ({"schema": None}, "json values need a schema"),
        ({"format": "raw"}, "raw values have no schema"),
        ({"format": "csv"}, "'json', 'avro', 'string' or 'raw'"),
        ({"format": "avro"}, "avro values need a registry"),
        ({"format": "avro", "schema": None, "registry": {"path": "r"}}, "avro values need a schema"),
        ({"registry": {"path": "r"}}, "json values have no registry"),
        ({"format": "avro", "registry": {}}, "exactly one of: path, url"),
        ({"format": "avro", "registry": {"url": "r"}}, "String should match pattern"),
        ({"format": "avro", "registry": {"url": "http://me:secret@r"}}, "String should match pattern"),
        ({"format": "avro", "registry": {"url": "http://r", "user": "me"}}, "user and password go together"),
        ({"with": ["value"]}, "'topic', 'partition'"),
        ({"options": {"kafka.bootstrap.servers": "x"}}, "what says it is servers"),
        ({"options": {"startingOffsets": "latest"}}, "is no option of a Kafka client"),
        ({"options": {"failOnDataLoss": "false"}}, "is no option of a Kafka client"),
        ({"max_offsets_per_batch": 0}, "greater than or equal to 1"),
        ({"topic": "a"}, "unknown key 'topic'"),
    ],
)
def test_what_is_wrong_with_it_is_said(changes: dict[str, Any], message: str):
    with pytest.raises(ConfigError) as raised:
        parsed(**changes)
    assert message in raised.value.message
    assert raised.value.params["field"].startswith("source.kafka")


def test_it_is_not_static():
    value = pipeline()
    value["source"]["static"] = True
    with pytest.raises(ConfigError, match="no end up to which"):
        parse_pipeline(value, "project")


def test_secrets_are_references_and_are_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KAFKA_LOGIN", "login with hunter2")
    folder = tmp_path / "conf/pipelines"
    folder.mkdir(parents=True)
    body = pipeline(options={"kafka.sasl.jaas.config": "${env:KAFKA_LOGIN}"})
    (folder / "events.yml").write_text(json.dumps(body))

    found = load_project(tmp_path).pipeline("events")

    option = found.inputs["events"].kafka.options["kafka.sasl.jaas.config"]
    assert option.get_secret_value() == "login with hunter2"
    assert "hunter2" not in repr(found)
    assert "hunter2" not in found.model_dump_json()


def test_where_it_is_read_from_does_not_decide_what_its_rows_are():
    plain = fingerprint(parsed(), "project")
    same = [{"servers": "other:9092"}, {"max_offsets_per_batch": 5}, {"options": {"kafka.client.id": "me"}}]
    some = {"topics": None, "partitions": {"a": [0], "b": [0]}}
    other = [
        {"topics": ["a"]},
        some,
        {"starting": {"a": {0: 5}, "b": {0: 0}}},
        {"with": ["key"]},
        {"options": {"kafka.isolation.level": "read_committed"}},
    ]
    assert {fingerprint(parsed(**each), "project") for each in same} == {plain}
    assert plain not in {fingerprint(parsed(**each), "project") for each in other}


def test_where_the_schemas_stand_does_not_decide_what_rows_are_but_the_pipelines_own_does():
    avro = {"format": "avro", "registry": {"path": "registry"}, "schema": '{"type": "record"}'}
    plain = fingerprint(parsed(**avro), "project")
    assert fingerprint(parsed(**avro | {"registry": {"url": "https://r"}}), "project") == plain
    assert fingerprint(parsed(**avro | {"schema": '{"type": "record", "fields": []}'}), "project") != plain
    assert parsed(**avro).inputs["events"].kafka.registry.path.endswith("/project/registry")


def test_a_schema_that_was_learnt_after_its_records_were_set_aside_is_other_code(tmp_path: Path):
    state = str(tmp_path)
    assert schemas.sealed("code", state) == "code"
    schemas.add(state, "events", {1: Writer("one"), 2: Writer("", unfit="why")})
    assert schemas.sealed("code", state) == "code"
    schemas.add(state, "events", {1: Writer("other"), 3: Writer("three", late=True)})
    assert schemas.sealed("code", state) != "code"
    one, two, three = Writer("one"), Writer("", unfit="why"), Writer("three", late=True)
    assert schemas.read(state) == {"events": {1: one, 2: two, 3: three}}
    (tmp_path / "schemas.json").write_text('{"events": {"x": {}}}')
    with pytest.raises(StateError, match="is damaged"):
        schemas.read(state)


def test_a_registry_of_files_is_a_folder_or_one_file(tmp_path: Path):
    (tmp_path / "1.avsc").write_text("one")
    (tmp_path / "README.avsc").write_text("none")
    (tmp_path / "r.json").write_text('{"7": {"type": "long"}, "8": "eight"}')
    folder, file = Registry(path=str(tmp_path)), Registry(path=str(tmp_path / "r.json"))
    assert registry.listed(folder) == (1,)
    assert registry.find(folder, [1, 2]) == {1: Writer("one")}
    assert registry.find(file, registry.listed(file)) == {7: Writer('{"type": "long"}'), 8: Writer("eight")}
    with pytest.raises(SourceError, match="cannot be read"):
        registry.listed(Registry(path=str(tmp_path / "nowhere")))


def test_a_registrys_server_is_not_asked_for_an_id_that_none_has():
    nobody = Registry(url="http://127.0.0.1:1")  # to ask it is an error
    assert registry.find(nobody, [2**31, 2**32 - 1]) == {}


def test_a_registrys_login_stays_with_its_server_wherever_that_redirects_to():
    asked: list[tuple[str, str | None]] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.headers["Host"], self.headers["Authorization"]))
            there = self.server is other
            body = b'{"schema": "elsewhere"}' if there else b""
            self.send_response(200 if there else 307)
            if not there:
                elsewhere = "" if len(asked) == 1 else f"http://localhost:{other.server_port}"
                self.send_header("Location", f"{elsewhere}/to{self.path}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_what: Any) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Answers) as own, HTTPServer(("127.0.0.1", 0), Answers) as other:
        for each in (own, own, other):
            threading.Thread(target=each.handle_request, daemon=True).start()
        said = Registry(url=f"http://127.0.0.1:{own.server_port}", user="me", password="secret")  # noqa: S106
        assert registry.find(said, [1]) == {1: Writer("elsewhere")}
        login = "Basic " + base64.b64encode(b"me:secret").decode()
        assert asked == [
            (f"127.0.0.1:{own.server_port}", login),
            (f"127.0.0.1:{own.server_port}", login),
            (f"localhost:{other.server_port}", None),
        ]


def test_the_json_schema_knows_it():
    assert "with" in json_schema()["$defs"]["KafkaSource"]["properties"]


def test_where_a_stream_began_is_read_from_its_checkpoint(tmp_path: Path):
    note = tmp_path / "sources/0/0"
    note.parent.mkdir(parents=True)
    note.write_text('\0v1\n{"a":{"0":3,"1":0}}')
    assert inputs.first_offsets(str(tmp_path), 0) == {"a": {"0": 3, "1": 0}}
    with pytest.raises(StateError):
        inputs.first_offsets(str(tmp_path), 1)
    note.write_text("\0v1\n{")
    with pytest.raises(StateError):
        inputs.first_offsets(str(tmp_path), 0)


def test_of_many_partitions_a_few_are_named():
    offset = {"a": {str(part): part for part in range(6)}}
    assert inputs.describe_offsets(offset) == "a/0 0, a/1 1, a/2 2, a/3 3 and 2 more"


def test_the_ids_of_topics_are_kept_by_input(tmp_path: Path):
    state = str(tmp_path)
    assert topics.read(state) == {}
    topics.write(state, "one", {"a": "x"})
    topics.write(state, "two", {"a": "y"})
    topics.write(state, "one", {"a": "z", "b": "w"})
    assert topics.read(state) == {"one": {"a": "z", "b": "w"}, "two": {"a": "y"}}
    (tmp_path / "topics.json").write_text("[")
    with pytest.raises(StateError, match="is damaged"):
        topics.read(state)


def test_a_topic_that_was_read_and_whose_id_is_not_known_is_not_believed(tmp_path: Path):
    state, now = str(tmp_path), {"a": "x", "b": "y"}
    topics.check_known(state, "one", ["without-id"], now)  # its broker gives none
    with pytest.raises(StateError, match="topics a, b were read for input one") as raised:
        topics.check_known(state, "one", ["b", "a", "without-id"], now)
    topics.write(state, "one", {"a": "x"})
    with pytest.raises(StateError, match="topic b was read for input one"):
        topics.check_known(state, "one", now, now)
    # What the error says to write is taken for the word that it was not made anew.
    (tmp_path / "topics.json").write_text(
        raised.value.next_step.partition("add ")[2].partition(" to that")[0]
    )
    topics.check_known(state, "one", now, now)
    source = parsed().inputs["events"].kafka
    check_same(source, topics.read(state)["one"], now)
    with pytest.raises(SourceError, match="topic b at broker:9092 was made anew"):
        check_same(source, now, {"a": "x", "b": "z"})
